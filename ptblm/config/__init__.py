"""Configs: defines, loads, validates and shows the settings of a run."""
