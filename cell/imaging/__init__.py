"""Imaging shared by the daemon and the trainer: NumPy and SciPy only."""
