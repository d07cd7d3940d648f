"""Implements the commands: combines all other packages and manages files and signals."""
