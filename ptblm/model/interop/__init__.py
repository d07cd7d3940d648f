"""Converts weights from and to other frameworks, one file per framework."""
