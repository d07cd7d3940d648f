"""A lock on a directory: two processes can't work in one.

The system lets go of it when its holder ends, however that ends, so no lock is ever stale.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # Windows has no such locks; there it is up to the user
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = "lock"


class TakenError(Exception):
    """Another process, `holder` in words, holds the lock."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"in use by {holder}")
        self.holder = holder


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[Callable[[], bool]]:
    """Holds the directory's lock.

    Yields:
        Says whether the directory of that name is still the one that was locked: it may be
        moved away, and another be put in its place.

    Raises:
        TakenError: if another process holds it.
        OSError: if the directory can't be written to.
    """
    path = directory / LOCK_NAME
    file = _open(path)
    try:
        while not _acquire(file, path):
            file.close()
            file = _open(path)
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield lambda: _is_still(file, path)
        finally:
            if _is_still(file, path):  # the directory may have been moved, and be another's now
                path.unlink()
    finally:
        file.close()


def _open(path: Path) -> IO[str]:
    """Opens the lock's file, but nothing that a link of its name points to."""
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o666), "a+")


def _acquire(file: IO[str], path: Path) -> bool:
    """Takes the lock; False if its file was removed by its last holder in between."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        number = file.read().strip()
        raise TakenError(f"process {number}" if number else "another process") from None
    except OSError:
        return True  # a file system without locks
    return _is_still(file, path)


def _is_still(file: IO[str], path: Path) -> bool:
    """Whether `path` is still the file that was opened."""
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
