"""The command line."""

from ptblm.cli.main import main

__all__ = ["main"]
