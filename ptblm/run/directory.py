"""Run directories: file paths, locking, and the rules for reusing a directory.

config.yaml         the resolved config
environment.json    versions, hardware, command
metrics.jsonl       one record per line
checkpoints/        last.safetensors, best.safetensors, and optional numbered checkpoints
result.json         the final results
diverged.json       the metrics of the last step, if the run diverged
tensorboard/        optional TensorBoard curves
plot.png            optional plot, or plot.svg, plot.pdf
report.html         optional report
lock                locked while a process uses the directory
"""

import contextlib
import itertools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ptblm.errors import CheckpointError, UsageError
from ptblm.files import TEMPORARY_PATTERN, os_errors, remove_temporary_files
from ptblm.json_files import read_json
from ptblm.paths import RUN_HINT, shell_join

RUNS = Path("runs")
LOCK_NAME = "lock"
_SUFFIX = ".safetensors"
_OTHER_RUN_DIR = "pass another --run-dir"

_OWN_FILES = re.compile(
    r"(config\.yaml|environment\.json(\.bad)?|metrics\.jsonl|result\.json|diverged\.json|lock"
    r"|checkpoints/[^/]+\.safetensors(\.bad)?|tensorboard/events\.[^/]+"
    r"|(plot\.(png|svg|pdf)|report\.html))"
    rf"({TEMPORARY_PATTERN})?"
)


@dataclass(frozen=True)
class RunDirectory:
    """The paths of the files of a run.

    Attributes:
        path: the directory.
        descriptor: file descriptor of the directory while it is locked; None if it is not locked.
    """

    path: Path
    descriptor: int | None = None

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

    def at_tokens(self, tokens: int) -> Path:
        """Returns the path of the checkpoint after a number of training tokens."""
        return self.checkpoints / f"tokens-{short_count(tokens)}.safetensors"

    def all_checkpoints(self) -> list[Path]:
        """Returns the paths of all existing checkpoints.

        Raises:
            OSError: if the directory of checkpoints exists but cannot be read.
        """
        try:
            names = os.listdir(self.checkpoints)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [self.checkpoints / name for name in sorted(names) if name.endswith(_SUFFIX)]

    def is_in_place(self) -> bool:
        """Returns whether the path still refers to the locked directory."""
        return self.descriptor is None or _is_same(self.path, self.descriptor)

    def moved_to(self) -> Path | None:
        """Returns the new path of the locked directory; None if it was deleted.

        Only Linux tells the new path.
        """
        with contextlib.suppress(OSError):
            path = Path(os.readlink(f"/proc/self/fd/{self.descriptor}"))
            if self.descriptor is not None and _is_same(path, self.descriptor):
                return path
        return None


def short_count(number: int) -> str:
    """Returns a number as in `run.keep_at`: 1500000 is "1500k", and 2000000 is "2M"."""
    for unit, size in (("M", 10**6), ("k", 1000)):
        if number % size == 0:
            return f"{number // size}{unit}"
    return str(number)


def _is_same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def first_free(name: str) -> Path:
    """Creates and returns the first of runs/NAME, runs/NAME-2, ... that does not exist.

    Raises:
        UsageError: if the directory cannot be created.
    """
    with os_errors(UsageError, "cannot create the run directory"):
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
    hint = f"{RUN_HINT}, or a checkpoint file"
    with os_errors(CheckpointError, where=path, hint=hint):
        is_directory = path.is_dir()
        found = RunDirectory(path).last if is_directory else path
        if found.is_file():
            return found
        exists = os.path.lexists(found)
    what = "no checkpoint in this directory" if is_directory else "no such checkpoint"
    what = "not a regular file" if exists else what
    raise CheckpointError(what, where=os.path.abspath(found if exists else path), hint=hint)


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
    foreign = next((file for file in _files(path) if not _OWN_FILES.fullmatch(file)), None)
    if foreign is not None or not _is_run(path):
        what = f"contains {foreign}" if foreign else "does not contain a run of ptblm"
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
    for file in list(_files(directory.path)):
        if file not in (LOCK_NAME, directory.environment.name):
            (directory.path / file).unlink()
    with contextlib.suppress(FileNotFoundError):
        directory.tensorboard.rmdir()
    directory.environment.unlink(missing_ok=True)
    directory.checkpoints.mkdir(exist_ok=True)


def clear_temporary_files(directory: RunDirectory) -> None:
    """Removes temporary files left by a killed process.

    Raises:
        OSError: if a file cannot be removed.
    """
    remove_temporary_files(directory.path, r"[^.]+\.(yaml|json)")
    if directory.checkpoints.is_dir():
        remove_temporary_files(directory.checkpoints, r".+\.safetensors")


def check_no_links(directory: RunDirectory) -> None:
    """Checks that the directories that a run writes to are not links to other places.

    Raises:
        UsageError: if one of them is a link.
    """
    for path in (directory.checkpoints, directory.tensorboard):
        if path.is_symlink():
            raise UsageError(
                "a run does not write through a symbolic link",
                where=str(path),
                hint="replace the link with a directory",
            )


def _has_no_content(path: Path) -> bool:
    """Returns whether a directory contains only files of a run that failed during its start."""
    own = re.compile(rf"{LOCK_NAME}|environment\.json{TEMPORARY_PATTERN}")
    return all(own.fullmatch(file) for file in _files(path))


def _files(path: Path) -> Iterator[str]:
    """Yields everything in a run directory except its own directories, as relative paths.

    Nothing below another directory is looked at, because it cannot belong to the run.
    """
    for name in sorted(os.listdir(path)):
        inner = path / name
        if name in ("checkpoints", "tensorboard") and inner.is_dir() and not inner.is_symlink():
            yield from (f"{name}/{file}" for file in sorted(os.listdir(inner)))
        else:
            yield name


def _is_run(path: Path) -> bool:
    versions = read_json(path / "environment.json").get("versions")
    return isinstance(versions, dict) and "ptblm" in versions
