"""Converts weights to and from other frameworks, with one file per framework."""
