"""Writes results to stdout, which may be full, or have lost its reader."""

import os
import signal
import sys

import typer

from ptblm.errors import UsageError


def print_result(text: str) -> None:
    """Writes to stdout, and heeds that it may be full, or that its reader may have left."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Python must not try again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + signal.SIGPIPE) from None
        raise UsageError(f"can't write to standard output: {error.strerror}") from None
