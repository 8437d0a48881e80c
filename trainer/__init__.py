"""The trainer: calibrates, generates and trains, one job at a time in a child process; torch lives here alone."""
