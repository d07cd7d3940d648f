"""Input data: downloads text, tokenizes it into ids, and arranges ids in batches."""
