"""Reporting: what a run shows to people and writes for programs."""
