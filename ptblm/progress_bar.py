"""A progress bar of one line, which fits the width of the terminal at any time."""

import os
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from tqdm import tqdm
from tqdm.utils import disp_len

from ptblm.terminal import escape

_MIN_BAR, _MAX_BAR = 6, 12
_DEFAULT_WIDTH = 80

_hidden = False


def hide(hidden: bool) -> None:
    """Sets whether this process shows no progress bars."""
    global _hidden
    _hidden = hidden


class ProgressBar:
    """A bar with text on a terminal. Other output is printed above it, see `external_write_mode`.

    Args:
        total: amount of work; None if it is unknown.
        initial: amount of work that is already done.
        stream: output stream; None selects stderr. Nothing is shown if it is not a terminal.
    """

    def __init__(
        self, total: float | None, initial: float = 0, stream: TextIO | None = None
    ) -> None:
        self._total = total
        self._initial = initial
        self._stream = sys.stderr if stream is None else stream
        self._bar: _Bar | None = None

    def show(self, done: float, parts: Sequence[str]) -> None:
        """Updates the bar, at most ten times per second.

        Args:
            done: amount of work that is done.
            parts: parts of the text, in order of importance. The last ones are omitted if the
                terminal is narrow; the first one is shortened to make room for the second.
        """
        width = _width(self._stream) - 1  # some terminals wrap a full line
        text = fit([escape(part) for part in parts], width)
        room = min(width - disp_len(text) - len(" ||"), _MAX_BAR)
        bar_format = f"{{desc}} |{{bar:{room}}}|" if room >= _MIN_BAR else "{desc}"
        if self._bar is None:
            self._bar = _Bar(
                desc=text,
                total=self._total,
                initial=self._initial,
                ncols=width,
                bar_format=bar_format,
                leave=False,
                file=self._stream,
                disable=_hidden or not self._stream.isatty(),
            )
        self._bar.ncols = width
        self._bar.bar_format = bar_format
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    @property
    def per_second(self) -> float:
        """Amount of work per second; 0 if it is unknown."""
        return 0.0 if self._bar is None else float(self._bar.format_dict["rate"] or 0)

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fit(parts: Sequence[str], width: int) -> str:
    """Returns the parts that fit into `width` columns, separated by commas."""
    first, *others = parts
    room = width - (len(", ") + disp_len(others[0]) if others else 0)
    if disp_len(first) > room:
        while first and disp_len(first) > room - 1:
            first = first[:-1]
        first += "…" if room > 1 else ""
    text = first
    for part in others:
        longer = f"{text}, {part}" if text else part
        if disp_len(longer) > width:
            break
        text = longer
    return text or parts[0][:width]


class _Bar(tqdm):  # type: ignore[type-arg]  # not generic at run time
    """Erases the rest of the line instead of overwriting it with as many spaces as before.

    If the terminal has become narrower, these spaces would wrap.
    """

    @staticmethod
    def status_printer(file: Any) -> Any:
        def print_status(text: str) -> None:
            file.write(f"\r{text}\x1b[K")
            file.flush()

        return print_status


def _width(stream: TextIO) -> int:
    """Returns the present width of a terminal."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # not a real terminal
        columns = 0
    return columns or _DEFAULT_WIDTH
