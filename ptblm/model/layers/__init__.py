"""Layers that run a cell over time, and dropout."""
