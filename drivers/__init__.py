"""Everything that touches hardware; one file a vendor."""
