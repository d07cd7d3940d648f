"""Run directories: file paths, locking, and the rules for reusing a directory.

config.yaml         the resolved config
environment.json    versions, hardware, command
metrics.jsonl       one record per line
checkpoints/        last.safetensors, best.safetensors, and optional numbered checkpoints
result.json         the final results
diverged.json       the metrics of the last step, if the run diverged
tensorboard/        optional TensorBoard curves
lock                locked while a process uses the directory
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ptblm.errors import CheckpointError, UsageError
from ptblm.files import TEMPORARY_PATTERN
from ptblm.json_files import read_json
from ptblm.paths import shell_join

RUNS = Path("runs")
LOCK_NAME = "lock"
RUN_HINT = "pass a run directory, such as runs/small-ptb"
_OTHER_RUN_DIR = "pass another --run-dir"

_OWN_FILES = re.compile(
    r"(config\.yaml|environment\.json|metrics\.jsonl|result\.json|diverged\.json|lock"
    r"|checkpoints/[^/]+\.safetensors(\.bad)?|tensorboard/events\.[^/]+)"
    rf"({TEMPORARY_PATTERN})?"
)


@dataclass(frozen=True)
class RunDirectory:
    """The paths of the files of a run.

    Attributes:
        path: the directory.
        identity: `os.stat` result of the directory when it was locked; None if it is not locked.
    """

    path: Path
    identity: os.stat_result | None = None

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, hardware, command."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """One record per line."""
        return self.path / "metrics.jsonl"

    @property
    def result(self) -> Path:
        """The final results."""
        return self.path / "result.json"

    @property
    def diverged(self) -> Path:
        """The metrics of the last step of a diverged run."""
        return self.path / "diverged.json"

    @property
    def tensorboard(self) -> Path:
        """Event files for TensorBoard."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The directory of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.safetensors"

    @property
    def best(self) -> Path:
        """The checkpoint with the lowest validation perplexity."""
        return self.checkpoints / "best.safetensors"

    def numbered(self, step: int) -> Path:
        """Returns the path of the numbered checkpoint of a step."""
        return self.checkpoints / f"step-{step:09}.safetensors"

    def all_checkpoints(self) -> list[Path]:
        """Returns the paths of all existing checkpoints."""
        return sorted(self.checkpoints.glob("*.safetensors"))

    def is_in_place(self) -> bool:
        """Returns whether the path still refers to the locked directory."""
        try:
            return self.identity is None or os.path.samestat(self.identity, self.path.stat())
        except OSError:
            return False


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
        UsageError: if another process uses the directory, or the directory cannot be created or
            written to.
    """
    created = created or not path.exists()
    with write_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / LOCK_NAME)
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
        else:  # the lock is not a link: filelock has opened it
            with contextlib.suppress(OSError):
                (path / LOCK_NAME).write_text(f"{os.getpid()}\n")
        directory = RunDirectory(path, path.stat())
    try:
        with _kept_open(path):
            yield directory
    finally:
        if created and directory.is_in_place() and _files(path) == [LOCK_NAME]:
            with contextlib.suppress(OSError):
                (path / LOCK_NAME).unlink()
                path.rmdir()
        lock.release()


@contextlib.contextmanager
def _kept_open(path: Path) -> Iterator[None]:
    """Keeps a directory open, so that its inode number is not reused if it is deleted."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows, which does not delete a directory with a locked file
        yield
        return
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Re-raises an OSError in the block as a UsageError with the file and a hint."""
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write to the run directory: {error.strerror or error}",
            where=str(error.filename or path),
            hint="free disk space or change the permissions; a new run can use another --run-dir",
        ) from None


def first_free(name: str) -> Path:
    """Creates and returns the first of runs/NAME, runs/NAME-2, ... that does not exist.

    Raises:
        UsageError: if the directory cannot be created.
    """
    with write_errors(RUNS):
        RUNS.mkdir(exist_ok=True)
        for number in itertools.count(1):
            path = RUNS / (name if number == 1 else f"{name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    raise AssertionError("unreachable")


def find_checkpoint(path: Path) -> Path:
    """Returns the path of a checkpoint, given a checkpoint file or a run directory.

    Raises:
        CheckpointError: if there is no checkpoint or the path cannot be read.
    """
    try:
        is_directory = path.is_dir()
        found = RunDirectory(path).last if is_directory else path
        if found.is_file():
            return found
        what = "no checkpoint in this directory" if is_directory else "no such checkpoint"
    except OSError as error:
        what = f"cannot be read: {error.strerror or error}"
    hint = f"{RUN_HINT}, or a checkpoint file"
    raise CheckpointError(what, where=os.path.abspath(path), hint=hint)


def check_available(path: Path, *, delete_with: str | None = None) -> None:
    """Checks that a new run may use a directory.

    Args:
        path: the directory.
        delete_with: the option that allows to delete a run in the directory, but no other files,
            so that a mistyped path never deletes them; None allows an empty directory only.

    Raises:
        UsageError: if the directory contains anything that the run must not delete.
    """
    if path.exists() and not path.is_dir():
        raise UsageError("the run directory is a file", where=str(path), hint=_OTHER_RUN_DIR)
    if not path.is_dir() or _has_no_content(path):
        return
    if delete_with is None:
        raise UsageError(
            "the run directory is not empty",
            where=str(path),
            hint=_what_to_do_with(RunDirectory(path)),
        )
    foreign = [file for file in _files(path) if not _OWN_FILES.fullmatch(file)]
    if foreign or not _is_run(path):
        what = f"contains {foreign[0]}" if foreign else "does not contain a run of ptblm"
        raise UsageError(
            f"the run directory {what}, so {delete_with} does not delete it",
            where=str(path),
            hint=_OTHER_RUN_DIR,
        )


def _what_to_do_with(directory: RunDirectory) -> str:
    """Returns the hint for a directory that a new run cannot use."""
    delete = "--overwrite to delete the run, or " if _is_run(directory.path) else ""
    resume = shell_join(["--resume", str(directory.path)])
    resume = f"{resume} to resume the run, " if directory.last.is_file() else ""
    return f"pass {resume}{delete}another --run-dir"


def clear(directory: RunDirectory) -> None:
    """Deletes the files of a run. Call `check_available` first.

    environment.json, which identifies a run, is deleted last, so an interrupted deletion can be
    repeated.
    """
    for file in _files(directory.path):
        if file not in (LOCK_NAME, directory.environment.name):
            (directory.path / file).unlink()
    with contextlib.suppress(FileNotFoundError):
        directory.tensorboard.rmdir()
    directory.environment.unlink(missing_ok=True)
    directory.checkpoints.mkdir(exist_ok=True)


def remove_temporary_files(directory: RunDirectory) -> None:
    """Removes temporary files left by a killed process."""
    for path in directory.path.rglob("*.part"):
        if _OWN_FILES.fullmatch(path.relative_to(directory.path).as_posix()):
            path.unlink(missing_ok=True)


def _lock_holder(path: Path) -> str:
    """Returns the process that holds the lock, as far as the lock file tells."""
    with contextlib.suppress(OSError, ValueError):
        return f"process {int((path / LOCK_NAME).read_text()[:20])}"
    return "another process"


def _has_no_content(path: Path) -> bool:
    """Returns whether a directory contains only files of a run that failed during its start."""
    entries = {entry.name for entry in path.iterdir()}
    own = re.compile(rf"{LOCK_NAME}|checkpoints|environment\.json{TEMPORARY_PATTERN}")
    return all(own.fullmatch(entry) for entry in entries) and not any(
        file.startswith("checkpoints/") for file in _files(path)
    )


def _files(path: Path) -> list[str]:
    """Returns everything in a directory except directories, as relative paths."""
    entries = [entry for entry in path.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    return sorted(entry.relative_to(path).as_posix() for entry in entries)


def _is_run(path: Path) -> bool:
    versions = read_json(path / "environment.json").get("versions")
    return isinstance(versions, dict) and "ptblm" in versions
