"""The always-on service of an inspection cell: judges every part, and gathers what its judge is made from."""
