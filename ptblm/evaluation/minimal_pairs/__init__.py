"""Minimal pairs: sentences of which a model should find one more probable than the other."""
