"""Benchmarks: one script for each claim about speed or memory, with a reference."""
