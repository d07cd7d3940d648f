"""What the command line prints: results, errors, tracebacks, and the log of ptblm."""

import logging
from collections.abc import Iterator
from traceback import TracebackException
from typing import Any

from ptblm import progress_bar
from ptblm.errors import PtblmError
from ptblm.json_files import strict_json
from ptblm.terminal import print_messages, print_output

_MAX_FRAMES = 100  # of a traceback, the innermost

_tracebacks = False
_quiet = False
_process = ""


def print_json(content: dict[str, Any]) -> None:
    """Writes a result to stdout as JSON, in which all that is not printable is escaped."""
    print_output(strict_json(content, indent=2).replace("\x7f", "\\u007f").split("\n"))


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Sets which log messages are shown, and whether progress is.

    Args:
        quiet: whether to show warnings and errors only.
        verbose: whether to show details too.
    """
    global _quiet
    _quiet = quiet
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.getLogger("ptblm").setLevel(level)
    progress_bar.hide(quiet)


def silence(process: str) -> None:
    """Shows only errors, which begin with the name of the process."""
    global _process
    _process = f"{process}: "
    logging.getLogger("ptblm").setLevel(logging.ERROR)
    progress_bar.hide(True)


def is_quiet() -> bool:
    """Returns whether only results, warnings and errors are shown."""
    return _quiet


def show_tracebacks(enabled: bool) -> None:
    """Sets whether `print_error` also prints a traceback."""
    global _tracebacks
    _tracebacks = enabled


def print_error(error: PtblmError) -> None:
    """Prints each problem on a separate line, then the location and the hint."""
    if _tracebacks:
        print_traceback(error)
    lines = [f"{_process}{error.label}: {problem}" for problem in error.problems]
    if error.where:
        lines.append(f"  at: {error.where}")
    if error.hint is not None:
        lines.append(f"  hint: {error.hint}")
    print_messages(lines)


def print_traceback(error: BaseException) -> None:
    """Prints the traceback of an error and of the errors that caused it."""
    print_messages(_traceback_lines(TracebackException.from_exception(error, limit=-_MAX_FRAMES)))


def _traceback_lines(error: TracebackException) -> Iterator[str]:
    """Yields the lines that Python prints, each part that may contain a newline as one line."""
    if error.__cause__ is not None:
        yield from _traceback_lines(error.__cause__)
        yield from ("", "The above exception was the direct cause of the following exception:", "")
    elif error.__context__ is not None and not error.__suppress_context__:
        yield from _traceback_lines(error.__context__)
        yield from ("", "During handling of the above exception, another exception occurred:", "")
    yield "Traceback (most recent call last):"
    for frame in error.stack:
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"    {frame.line}"
    yield "".join(error.format_exception_only()).removesuffix("\n")


def configure_logging() -> None:
    """Shows the log messages of ptblm on stderr as "note: ..." and "warning: ...".

    Replaces the handlers of an earlier call.
    """
    global _process
    _process = ""
    logger = logging.getLogger("ptblm")
    set_verbosity(quiet=False, verbose=False)
    logger.propagate = False
    logger.handlers = [_TerminalHandler()]


class _TerminalHandler(logging.Handler):
    """Prints log messages without breaking a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        label = "note" if record.levelno < logging.WARNING else "warning"
        print_messages([f"{label}: {record.getMessage()}"])
