"""Makes one call of the operating system fail, to test what a command does about it."""

import builtins
import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

CALLS = ["open", "stat", "lstat", "fstat", "scandir", "listdir", "mkdir", "replace", "unlink"]
CALLS += ["rmdir", "link", "fsync", "readlink", "fdopen", "chmod"]


class FailingCalls:
    """Counts the calls that ptblm makes, and lets one of them fail.

    Args:
        number: index of the call that fails; None lets none fail.
        error: the error number.

    Attributes:
        made: the calls made so far, with their first argument.
    """

    def __init__(self, number: int | None, error: int) -> None:
        self.number = number
        self.error = error
        self.made: list[str] = []

    def check(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Counts a call, and raises an OSError if it is the one that fails."""
        if not _is_call_of_ptblm(sys._getframe(2)):
            return
        target = arguments[0] if arguments else ""
        self.made.append(f"{name}({target!r:.80})")
        if len(self.made) - 1 == self.number:
            path = target if isinstance(target, str | bytes | os.PathLike) else None
            raise OSError(self.error, os.strerror(self.error), path)


def _is_call_of_ptblm(frame: FrameType | None) -> bool:
    """Returns whether a frame is in ptblm, or in a library that ptblm called, except imports."""
    while frame is not None:
        file = frame.f_code.co_filename
        if "importlib" in file or "/torch/" in file:
            return False
        if "/ptblm/" in file and "/tests/" not in file:
            return True
        frame = frame.f_back
    return False


@contextlib.contextmanager
def failing_calls(number: int | None, error: int = 5) -> Iterator[FailingCalls]:
    """Lets the call with this index fail in the block."""
    calls = FailingCalls(number, error)

    def failing(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.check(name, arguments)
            return function(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, failing(name, getattr(os, name)))
        opened = failing("open", builtins.open)
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        yield calls
