"""Locks a run directory, so that only one process uses it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ptblm.errors import UsageError
from ptblm.files import has_one_name, open_regular, os_errors
from ptblm.run.directory import LOCK_NAME, RunDirectory, check_no_links


@contextlib.contextmanager
def lock_run_dir(path: Path, *, created: bool = False) -> Iterator[RunDirectory]:
    """Locks a run directory for this process and creates it if necessary.

    The operating system releases the lock when the process ends, so locks are never stale. A new
    directory that is still empty at the end is removed. Some versions of filelock truncate the
    lock file, so the caller has to check an existing directory first.

    Args:
        path: the run directory.
        created: whether the caller just created the directory.

    Raises:
        UsageError: if another process uses the directory, if the directory cannot be created or
            written to, or if it contains a link that would be written through.
    """
    with write_errors(path):
        created = created or not path.exists()
        path.mkdir(parents=True, exist_ok=True)
    lock, descriptor = FileLock(path / LOCK_NAME), None
    try:
        with write_errors(path):
            _acquire(lock, path)
            descriptor = _open_directory(path)
            directory = RunDirectory(path, descriptor)
            check_no_links(directory)
        yield directory
    finally:
        with contextlib.suppress(OSError):  # cleaning up must not hide what happened
            if created and RunDirectory(path, descriptor).is_in_place():
                _remove_if_empty(path)
        if descriptor is not None:
            os.close(descriptor)
        with contextlib.suppress(OSError):
            lock.release()


def _acquire(lock: FileLock, path: Path) -> None:
    _check_lock_file(path / LOCK_NAME)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(
            f"the run directory is in use by {_lock_holder(path)}",
            where=str(path),
            hint="wait until the other process ends; a new run can use another --run-dir",
        ) from None
    except NotImplementedError:
        pass  # a file system without locks
    else:
        with contextlib.suppress(OSError):
            (path / LOCK_NAME).write_text(f"{os.getpid()}\n")


def try_lock(path: Path) -> FileLock | None:
    """Locks a file for this process, and returns the lock; None if another process has it.

    The lock is released when the process ends, or with its method `release`.

    Raises:
        NotImplementedError: if the file system has no locks.
        UsageError: if the file is a link.
        OSError: if the file cannot be created.
    """
    _check_lock_file(path)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Returns whether another process uses a run directory, which need not exist.

    Raises:
        NotImplementedError: if the file system has no locks.
        UsageError: if the lock file is a link.
        OSError: if the lock file cannot be opened.
    """
    if not (path / LOCK_NAME).exists():
        return False
    lock = try_lock(path / LOCK_NAME)
    if lock is not None:
        lock.release()
    return lock is None


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Re-raises an OSError in the block as a UsageError with the file and a hint."""
    with os_errors(
        UsageError,
        "cannot write to the run directory",
        fallback=path,
        hint="a new run can use another --run-dir",
    ):
        yield


def _check_lock_file(path: Path) -> None:
    """Checks that the lock file is not a link: filelock may truncate it.

    Raises:
        UsageError: if it is a symbolic or hard link, or not a regular file.
    """
    with contextlib.suppress(FileNotFoundError):
        if not has_one_name(path.lstat()):
            raise UsageError(
                "the lock file is a link or not a regular file", where=str(path), hint="delete it"
            )


def _lock_holder(path: Path) -> str:
    """Returns the process that holds the lock, as far as the lock file tells."""
    with contextlib.suppress(OSError, ValueError), open_regular(path / LOCK_NAME) as file:
        return f"process {int(file.read(20))}"
    return "another process"


def _open_directory(path: Path) -> int | None:
    """Keeps a directory open, so that its inode number is not reused if it is deleted."""
    try:
        return os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows, which does not delete a directory with a locked file
        return None


def _remove_if_empty(path: Path) -> None:
    if os.listdir(path) in ([], [LOCK_NAME]):
        (path / LOCK_NAME).unlink(missing_ok=True)
        path.rmdir()
