"""Conformance suites: what every camera and every light must do, whoever made it, faults included."""
