"""Benchmarks: each is a module that prints a table and writes it as JSON."""
