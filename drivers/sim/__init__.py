"""The emulated cell: parts, lights and a sensor whose physics is known."""
