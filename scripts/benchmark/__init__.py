"""The sections of `scripts/bench.py`, one file per section, and shared helpers."""
