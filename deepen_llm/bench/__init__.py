"""Benchmarks: what a token costs, always as a ratio of two things timed in the same run."""
