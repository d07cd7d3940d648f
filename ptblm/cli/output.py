"""Output of the command line to stdout and stderr, either of which may fail or be closed."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
from typing import TextIO, cast

import typer

from ptblm.errors import UsageError

# All control characters except tabs and newlines; in a terminal they could hide text.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def escape_control_characters(text: str) -> str:
    """Returns `text`, which may contain content of files, safe to print in a terminal."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


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
    """Shows the log messages of ptblm on stderr as "note: ..." and "warning: ...".

    Replaces the handlers of an earlier call.
    """
    logger = logging.getLogger("ptblm")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.handlers = [_StderrHandler()]


class _StderrHandler(logging.Handler):
    """Writes to the current stderr without breaking a progress bar.

    Errors of the stream are ignored, since a message must not end a run.
    """

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        label = "note" if record.levelno < logging.WARNING else "warning"
        message = escape_control_characters(f"{label}: {record.getMessage()}")
        # A closed stream raises ValueError.
        with contextlib.suppress(OSError, ValueError), tqdm.external_write_mode(file=sys.stderr):
            print(message, file=sys.stderr, flush=True)


def print_result(text: str) -> None:
    """Writes a result to stdout, with control characters escaped.

    Raises:
        UsageError: if stdout cannot be written to, for example because a disk is full.
        typer.Exit: with exit code 141 if the reader of a pipe has closed it.
    """
    try:
        print(escape_control_characters(text), flush=True)
    except OSError as error:
        # Otherwise Python writes the buffered text again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + signal.SIGPIPE) from None
        raise UsageError(
            f"cannot write to standard output: {error.strerror}",
            hint="free disk space, or redirect the output elsewhere",
        ) from None
