"""A run's directory: what lies where in it, and whose it is.

config.yaml         the resolved config
environment.json    versions, hardware, command, seed
metrics.jsonl       one record per line
checkpoints/        last.safetensors, best.safetensors, and numbered ones when asked for
result.json         the final figures
diverged.json       what the last step saw, if the run diverged
tensorboard/        curves, when asked for
lock                while a process works in it
"""

import contextlib
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ptblm.errors import CheckpointError, UsageError
from ptblm.files import TEMPORARY_SUFFIX, read_json
from ptblm.lock import LOCK_NAME, TakenError, locked

RUNS = Path("runs")

_OWN_FILES = re.compile(
    r"(config\.yaml|environment\.json|metrics\.jsonl|result\.json|diverged\.json|lock"
    r"|checkpoints/[^/]+\.safetensors(\.bad)?|tensorboard/events\.[^/]+)"
    rf"({re.escape(TEMPORARY_SUFFIX)})?"
)


@dataclass(frozen=True)
class RunDirectory:
    """The locations of a run's files under `path`.

    Attributes:
        path: of the directory.
        is_ours: says whether what has that path is still the directory that was locked.
    """

    path: Path
    is_ours: Callable[[], bool] = lambda: True

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
        """The final figures."""
        return self.path / "result.json"

    @property
    def diverged(self) -> Path:
        """What the last step of a diverged run saw."""
        return self.path / "diverged.json"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files, when asked for."""
        return self.path / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.checkpoints / "last.safetensors"

    def numbered(self, step: int) -> Path:
        """The checkpoint that is kept of a step."""
        return self.checkpoints / f"step-{step:09}.safetensors"

    def all_checkpoints(self) -> list[Path]:
        """Every checkpoint that is there: the last, the best, the numbered."""
        return sorted(self.checkpoints.glob("*.safetensors"))

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest valid perplexity."""
        return self.checkpoints / "best.safetensors"


@contextlib.contextmanager
def new_run(path: Path | None, name: str, *, overwrite: bool) -> Iterator[RunDirectory]:
    """Makes an empty run directory, and keeps it for this process.

    Args:
        path: where; None takes `runs/<name>`, or `runs/<name>-2` and so on if that is taken.
        name: of the run.
        overwrite: whether a run that is there already is deleted first.

    Raises:
        UsageError: if the directory is not empty, in use, or can't be made.
    """
    with _cannot_write(path or RUNS):
        if path is None and not overwrite:
            path = _first_free(name)
        path = path or RUNS / name
        refuse_taken(path, overwrite=overwrite)
    with kept_run(path) as directory:
        with _cannot_write(path):
            refuse_taken(path, overwrite=overwrite)
            clear(directory)
        yield directory


@contextlib.contextmanager
def existing_run(path: Path) -> Iterator[RunDirectory]:
    """Keeps an existing run's directory for this process.

    Raises:
        CheckpointError: if there is no run in it.
        UsageError: if it is in use, or can't be written to.
    """
    if not RunDirectory(path).all_checkpoints():
        what = "no checkpoint to resume from" if path.is_dir() else "no such run directory"
        raise CheckpointError(what, where=str(path), hint="a run's directory, as in runs/small-ptb")
    with kept_run(path) as directory:
        yield directory


@contextlib.contextmanager
def kept_run(path: Path) -> Iterator[RunDirectory]:
    """Keeps a directory for this process, whatever is in it; makes it if need be.

    One that was made, and in which nothing came to be, is removed again.

    Raises:
        UsageError: if it is in use, or can't be made or written to.
    """
    made = not path.exists()
    try:
        with contextlib.ExitStack() as stack:
            with _cannot_write(path):
                path.mkdir(parents=True, exist_ok=True)
                is_ours = stack.enter_context(locked(path))
            yield RunDirectory(path, is_ours)
    except TakenError as error:
        raise UsageError(
            f"the run directory is {error}",
            where=str(path),
            hint="another --run-dir, or wait until it ends",
        ) from None
    finally:
        if made:
            with contextlib.suppress(OSError):
                path.rmdir()


@contextlib.contextmanager
def _cannot_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "write into" if path.is_dir() else "make"
        raise UsageError(
            f"can't {what} the run directory: {error.strerror or error}",
            where=str(error.filename or path),
            hint="another --run-dir",
        ) from None


def clear_leftovers(directory: RunDirectory) -> None:
    """Removes what a killed writer left half done."""
    for path in directory.path.rglob(f"*{TEMPORARY_SUFFIX}"):
        if _OWN_FILES.fullmatch(path.relative_to(directory.path).as_posix()):
            path.unlink(missing_ok=True)


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or a run directory's last.

    Raises:
        CheckpointError: if there is none.
    """
    found = RunDirectory(path).last if path.is_dir() else path
    if not found.is_file():
        what = "no checkpoint in this directory" if path.is_dir() else "no such checkpoint"
        raise CheckpointError(
            what,
            where=str(path),
            hint="a run's directory, as in runs/small-ptb, or a checkpoint's file",
        )
    return found


def refuse_taken(path: Path, *, overwrite: bool) -> None:
    """Refuses a place for a new run where something is already.

    With `overwrite`, a run may be there, and nothing else: a slip of the pen must not cost
    anyone a directory of other things.

    Raises:
        UsageError: naming what is there.
    """
    if path.exists() and not path.is_dir():
        raise UsageError("the run directory is a file", where=str(path), hint="another --run-dir")
    if not path.is_dir() or _is_as_good_as_empty(path):
        return
    if not overwrite:
        raise UsageError(
            "the run directory is not empty",
            where=str(path),
            hint="--resume to go on with it, --overwrite to delete it, or another --run-dir",
        )
    foreign = [file for file in _files(path) if not _OWN_FILES.fullmatch(file)]
    if foreign or not _was_made_by_us(path):
        what = f"holds {foreign[0]}" if foreign else "holds no run of ptblm's"
        raise UsageError(
            f"the run directory {what}, so --overwrite leaves it alone",
            where=str(path),
            hint="another --run-dir",
        )


def _is_as_good_as_empty(path: Path) -> bool:
    """Whether there is nothing but what a run that failed at its very start leaves."""
    entries = {entry.name for entry in path.iterdir()}
    own = {LOCK_NAME, "checkpoints", f"environment.json{TEMPORARY_SUFFIX}"}
    return entries <= own and not any(file.startswith("checkpoints/") for file in _files(path))


def _first_free(name: str) -> Path:
    """Makes and returns the first of runs/<name>, runs/<name>-2, ... that is not there."""
    RUNS.mkdir(exist_ok=True)
    for number in itertools.count(1):
        path = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("counting never ends")


def _files(path: Path) -> list[str]:
    """Everything in a directory but folders, relative to it."""
    entries = [entry for entry in path.rglob("*") if entry.is_symlink() or not entry.is_dir()]
    return sorted(entry.relative_to(path).as_posix() for entry in entries)


def _was_made_by_us(path: Path) -> bool:
    versions = read_json(path / "environment.json").get("versions")
    return isinstance(versions, dict) and "ptblm" in versions


def clear(directory: RunDirectory) -> None:
    """Deletes a run's files, all of which `refuse_taken` has looked at.

    What says that they are ours goes last: a deletion that was killed half-way can be repeated.
    """
    for file in _files(directory.path):
        if file not in (LOCK_NAME, directory.environment.name):
            (directory.path / file).unlink()
    with contextlib.suppress(FileNotFoundError):
        directory.tensorboard.rmdir()
    directory.environment.unlink(missing_ok=True)
    directory.checkpoints.mkdir(exist_ok=True)
