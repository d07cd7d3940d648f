"""Recurrent cells, one cell per file."""
