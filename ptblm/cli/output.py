"""Writes to stdout and stderr, which may be full, closed, or without a reader."""

import contextlib
import io
import logging
import os
import signal
import sys
from typing import TextIO, cast

import typer

from ptblm.errors import UsageError


def open_standard_streams() -> None:
    """Makes stdin, stdout and stderr usable, whatever whoever started us did to them.

    A closed one is replaced by nothing. Messages to a stderr that nobody reads any more are
    dropped: they must not end a run.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, _Forgiving(sys.stderr))


class _StderrHandler(logging.Handler):
    """Writes `note: message` or `warning: message` to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        label = "note" if record.levelno < logging.WARNING else "warning"
        print(f"{label}: {record.getMessage()}", file=sys.stderr)


def configure_logging() -> None:
    """Shows the messages of ptblm's library code on stderr."""
    logger = logging.getLogger("ptblm")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_StderrHandler()]


class _Forgiving:
    """A stream on which a failed write is none."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


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
