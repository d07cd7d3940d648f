"""Reporting: terminal output and result files of a run."""
