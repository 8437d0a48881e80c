"""What harvest takes, refuses and proposes, held against the truth: ``python -m benchmarks.harvest``."""
