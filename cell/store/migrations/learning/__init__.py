"""Schema scripts, run by :mod:`cell.store.database`."""
