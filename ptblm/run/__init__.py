"""Conducts what a command asks for: puts the parts together, owns files and signals."""
