"""Configs: the schema of a run's settings, and loading, checking and showing them."""
