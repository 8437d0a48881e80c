"""Whether the process monitor finds what changes, and nothing else: ``python -m benchmarks.process``."""
