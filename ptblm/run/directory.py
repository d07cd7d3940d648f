"""A run's directory: what lies where in it, and whose it is.

config.yaml         the resolved config
environment.json    versions, hardware, command, seed
metrics.jsonl       one record per line
checkpoints/        last.pt, best.pt
result.json         the final figures
tensorboard/        curves, when asked for
"""

import contextlib
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path

from ptblm.errors import CheckpointError, UsageError
from ptblm.files import TEMPORARY_SUFFIX

RUNS = Path("runs")


@dataclass(frozen=True)
class RunDirectory:
    """The places of a run's files under `path`."""

    path: Path

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
    def tensorboard(self) -> Path:
        """TensorBoard's event files, when asked for."""
        return self.path / "tensorboard"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.pt"

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest valid perplexity."""
        return self.path / "checkpoints" / "best.pt"


def create_run_directory(path: Path | None, name: str, *, overwrite: bool) -> RunDirectory:
    """Makes an empty run directory.

    Args:
        path: where; None takes `runs/<name>`, or `runs/<name>-2` and so on if that is taken.
        name: of the run.
        overwrite: whether a run that is there already is deleted first.

    Raises:
        UsageError: if the directory is not empty, or can't be made.
    """
    try:
        if path is None and not overwrite:
            return _prepare(_first_free(name))
        path = path or RUNS / name
        if path.exists() and not path.is_dir():
            raise UsageError("the run directory is a file", where=str(path))
        if path.is_dir() and any(path.iterdir()):
            _clear(path, overwrite=overwrite)
        path.mkdir(parents=True, exist_ok=True)
        return _prepare(path)
    except OSError as error:
        raise UsageError(
            f"can't make the run directory: {error.strerror}", where=str(error.filename or path)
        ) from None


def open_run_directory(path: Path) -> RunDirectory:
    """An existing run's directory, cleared of what a killed writer left half done.

    Raises:
        CheckpointError: if there is no run in it.
    """
    directory = RunDirectory(path)
    if not directory.last.is_file():
        what = "no checkpoint to resume from" if path.is_dir() else "no such run directory"
        raise CheckpointError(what, where=str(directory.last if path.is_dir() else path))
    for leftover in path.glob(f"**/*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            leftover.unlink()
    return directory


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or a run directory's last.

    Raises:
        CheckpointError: if there is none.
    """
    if path.is_dir():
        last = RunDirectory(path).last
        if not last.is_file():
            raise CheckpointError(
                "no checkpoint in this directory",
                where=str(path),
                hint="a run directory, as in runs/small-ptb, or a checkpoint's file",
            )
        return last
    if not path.is_file():
        raise CheckpointError(f"no such checkpoint or run directory: {path}")
    return path


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


def _clear(path: Path, *, overwrite: bool) -> None:
    """Deletes the run in `path`, if that was asked for and it is one."""
    if not overwrite:
        raise UsageError(
            "the run directory is not empty",
            where=str(path),
            hint="--resume to go on with it, --overwrite to delete it, or another --run-dir",
        )
    # A slip of the pen after --overwrite must not cost anyone a directory of something else.
    if not (path / "config.yaml").is_file():
        raise UsageError(
            "not a run directory, so --overwrite leaves it alone",
            where=str(path),
            hint="another --run-dir",
        )
    shutil.rmtree(path)


def _prepare(path: Path) -> RunDirectory:
    (path / "checkpoints").mkdir(exist_ok=True)
    return RunDirectory(path)
