"""Benchmarks: each prints a small table and the command that repeats it."""
