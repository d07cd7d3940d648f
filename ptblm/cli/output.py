"""Output of the command line to stdout and stderr, either of which may fail or be closed."""

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
    """Makes stdin, stdout and stderr usable even if the parent process closed them.

    A closed stream is replaced by the null device. Failed writes to stderr are ignored, because
    they must not end a run.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.stderr = cast(TextIO, _ForgivingStream(sys.stderr))


class _ForgivingStream:
    """A stream that ignores failed writes."""

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


def configure_logging() -> None:
    """Shows the log messages of ptblm on stderr as "note: ..." and "warning: ..."."""
    logger = logging.getLogger("ptblm")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_StderrHandler()]


class _StderrHandler(logging.Handler):
    """Writes to the current stderr without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        label = "note" if record.levelno < logging.WARNING else "warning"
        with tqdm.external_write_mode(file=sys.stderr):
            print(f"{label}: {record.getMessage()}", file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Writes a result to stdout.

    Raises:
        UsageError: if stdout cannot be written to, for example because a disk is full.
        typer.Exit: with exit code 141 if the reader of a pipe has closed it.
    """
    try:
        print(text, flush=True)
    except OSError as error:
        # Otherwise Python writes the buffered text again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + signal.SIGPIPE) from None
        raise UsageError(f"cannot write to standard output: {error.strerror}") from None
