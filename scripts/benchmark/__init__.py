"""What `scripts/bench.py` measures: one file per section, and what they share."""
