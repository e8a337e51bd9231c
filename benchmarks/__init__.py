"""Speed and memory, as ratios between ways of doing the same work in one run: ``python -m benchmarks [NAME ...]``."""
