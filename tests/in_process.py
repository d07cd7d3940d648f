"""Runs the command line in the process of the tests, which is fast enough for property tests."""

import contextlib
import io
import signal
import sys
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from ptblm.cli import main
from ptblm.run.signals import SAVE_SIGNALS, STOP_SIGNALS


def ptblm(*arguments: object) -> tuple[int, str, str]:
    """Runs the command line in this process; returns its exit code, stderr and stdout."""
    errors, output = io.StringIO(), io.StringIO()
    before = sys.argv
    changed = [*STOP_SIGNALS, *SAVE_SIGNALS]
    handlers = {number: signal.getsignal(number) for number in changed}
    sys.argv = ["ptblm", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    else:
        code = 0
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, errors.getvalue(), output.getvalue()


def assert_clear(code: int, errors: str, *allowed: int) -> None:
    """Checks that a command succeeded, or failed with an allowed code and a message."""
    assert code in (0, *allowed), errors
    assert "Traceback" not in errors
    assert code == 0 or without_notes(errors).startswith("error: "), errors


def without_notes(errors: str) -> str:
    """Removes the notes that a command prints before its error."""
    while errors.startswith("note: "):
        errors = errors.partition("\n")[2]
    return errors


def locations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the path of each value in nested dicts and lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from locations(inner, (*path, key))


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Returns valid content with bytes overwritten, deleted, doubled, inserted or truncated."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["overwrite", "delete", "double", "insert", "truncate"]))
        if kind == "overwrite":
            data[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "delete":
            del data[start : start + length]
        elif kind == "double":
            data[start:start] = data[start : start + length]
        elif kind == "insert":
            data[start:start] = draw(st.binary(max_size=40))
        else:
            del data[start:]
    return bytes(data)
