"""Prints to the terminal: escapes control characters, and handles streams that fail or are closed.

All output goes through this module. Names, words and messages can come from untrusted files and
servers, and their control characters could hide text or forge a line. Only the newlines between
printed lines are not escaped.
"""

import contextlib
import io
import os
import select
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO, cast

_BLOCK_SIZE = 2**16  # characters of rows that are written at once
_MAX_MESSAGE = 10_000  # characters of a line; more than two of the longest paths


class OutputError(Exception):
    """Standard output cannot be written to.

    Attributes:
        reason: the reason of the operating system.
        is_closed: whether the reader of a pipe has closed it.
    """

    def __init__(self, error: OSError) -> None:
        self.reason = error.strerror or str(error)
        self.is_closed = isinstance(error, BrokenPipeError)
        super().__init__(self.reason)


def escape(text: str) -> str:
    r"""Returns text on one line, with everything that is not printable as in `\x1b`, `\n`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def counted(number: int, noun: str) -> str:
    """Returns a number and a noun, as in "1 epoch" and "1,234 epochs"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def megabytes(size: int) -> str:
    """Returns a number of bytes in megabytes."""
    return f"{size / 1e6:,.0f} MB"


def print_output(lines: Iterable[str]) -> None:
    """Writes lines to stdout, escaped and above a progress bar.

    Raises:
        OutputError: if stdout cannot be written to, at the first failure only.
    """
    _write_output("".join(f"{escape(line)}\n" for line in lines))


def print_part(text: str) -> None:
    """Writes a part of a text to stdout at once, escaped except for its newlines.

    Raises:
        OutputError: if stdout cannot be written to, at the first failure only.
    """
    _write_output("\n".join(map(escape, text.split("\n"))))


def print_rows(rows: Iterable[str], *, unchanged: bool = False, at_once: bool = False) -> None:
    """Writes rows of tab-separated values to stdout in large blocks, also if an error ends them.

    Args:
        rows: the rows, without line ends. They are escaped except for their tabs.
        unchanged: whether a file or a pipe receives the rows as they are, so that another program
            reads the same bytes; surrogates are bytes that were not UTF-8.
        at_once: whether to write each row at once, as on a terminal.

    Raises:
        OutputError: if stdout cannot be written to, at the first failure only.
    """
    is_terminal = sys.stdout.isatty()
    write = _write_data if unchanged and not is_terminal else _write_escaped_rows
    block: list[str] = []
    size = 0
    try:
        for row in rows:
            block.append(row)
            size += len(row)
            if at_once or is_terminal or size >= _BLOCK_SIZE:
                complete, block, size = block, [], 0
                write(complete)
    finally:
        if block:
            write(block)


def _write_escaped_rows(rows: list[str]) -> None:
    text = "".join(rows)
    if not (text.isprintable() or text.replace("\t", "").isprintable()):
        rows = ["\t".join(map(escape, row.removesuffix("\r").split("\t"))) for row in rows]
    _write_output("".join(f"{row}\n" for row in rows))


def _write_data(rows: list[str]) -> None:
    text = "".join(f"{row}\n" for row in rows)
    buffer = getattr(sys.stdout, "buffer", None)
    try:
        if buffer is None:  # a stream of text has replaced stdout
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            buffer.write(text.encode("utf-8", "surrogateescape"))
            buffer.flush()
    except OSError as error:  # outside the command line
        raise OutputError(error) from None


def _write_output(text: str) -> None:
    try:
        _write(text, sys.stdout)
    except OSError as error:  # outside the command line
        raise OutputError(error) from None


def print_messages(lines: Iterable[str]) -> None:
    """Writes lines to stderr, escaped and above a progress bar; a failure is ignored.

    Very long lines, which quote a long text of a file, are shortened.
    """
    with contextlib.suppress(OSError, ValueError):  # a closed stream raises ValueError
        print_lines(map(_shortened, lines), sys.stderr)


def _shortened(line: str) -> str:
    more = len(line) - _MAX_MESSAGE
    return line if more <= 0 else f"{line[:_MAX_MESSAGE]}... ({more:,} more characters)"


def print_from_handler(line: str) -> None:
    """Writes a line to stderr unbuffered, because a signal handler can interrupt another write."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{escape(line)}\n".encode())


def print_lines(lines: Iterable[str], stream: TextIO) -> None:
    """Writes lines to a stream, escaped and above a progress bar."""
    _write("".join(f"{escape(line)}\n" for line in lines), stream)


def _write(text: str, stream: TextIO) -> None:
    with _above_progress_bar(stream):
        stream.write(text)
        stream.flush()


@contextlib.contextmanager
def _above_progress_bar(stream: TextIO) -> Iterator[None]:
    """Removes progress bars in the block; there is none if tqdm is not imported."""
    if "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=stream):
        yield


def open_standard_streams() -> None:
    """Makes stdin, stdout and stderr usable, even if they are closed or cannot be written to.

    A closed stream is replaced by the null device. From now on, the first failed write to stdout
    raises `OutputError`, and a failed write to stderr is ignored, because it must not end a run.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _checked(stream, raises=name == "stdout"))


def _checked(stream: io.TextIOWrapper, *, raises: bool) -> io.TextIOWrapper:
    """Returns a stream for the same descriptor that handles failed writes."""
    stream.reconfigure(errors="backslashreplace")
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if type(raw) is not io.FileIO:  # a console of Windows
        return stream
    checked = _StandardStream(raw.fileno(), raises=raises)
    return io.TextIOWrapper(
        io.BufferedWriter(cast(io.FileIO, checked)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
    )


class _StandardStream(io.FileIO):
    """The descriptor of stdout or stderr.

    Args:
        descriptor: the descriptor.
        raises: whether the first failed write raises `OutputError`. The text of other failed
            writes is lost, so that Python does not fail to write it again when it exits. Text that
            follows a stop signal is lost too, because it may have been written already.
    """

    def __init__(self, descriptor: int, *, raises: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._raises = raises
        self._is_stopped = False

    def write(self, data: Any) -> int:
        if self._is_stopped:
            return len(data)
        try:
            while (written := super().write(data)) is None:  # a pipe that does not block
                select.select([], [self], [])
            return written
        except OSError as error:
            if self._raises:
                self._raises = False
                raise OutputError(error) from None
            return len(data)
        except SystemExit:
            self._is_stopped = self._raises
            raise
