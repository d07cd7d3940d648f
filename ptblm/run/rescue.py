"""Saves the state of a run when its directory, or a part of it, is gone."""

import contextlib
import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, save_checkpoint
from ptblm.errors import CheckpointError, PtblmError
from ptblm.paths import shell_join
from ptblm.run.directory import RunDirectory
from ptblm.run.hints import restart_command, resume_command

MakeCheckpoint = Callable[[], Checkpoint]


def check_place(directory: RunDirectory, make_checkpoint: MakeCheckpoint) -> None:
    """Recreates a deleted directory of checkpoints.

    Raises:
        CheckpointError: if the run directory itself was moved, deleted or replaced. The state was
            saved where the directory is now, in a new directory at its path, or next to it.
        OSError: if the state cannot be saved, or a link or a file is in place of the directory of
            checkpoints.
    """
    if directory.is_in_place():
        checkpoints = directory.checkpoints
        with contextlib.suppress(FileExistsError):
            checkpoints.mkdir()
        if checkpoints.is_symlink() or not checkpoints.is_dir():
            reason = f"{checkpoints} is a link or a file, not a directory"
            raise OSError(errno.ENOTDIR, reason, str(checkpoints))
        return
    place = directory.moved_to()
    what = "moved" if place else "replaced" if directory.path.exists() else "deleted"
    path = place or (_unused(directory.path) if what == "replaced" else directory.path)
    saved = _save_in(path, make_checkpoint)
    raise CheckpointError(
        f"the run directory was {what} during the run",
        where=str(directory.path),
        hint=f"the state was saved to {saved}; continue with {resume_command(path)}",
    )


def how_to_continue(directory: RunDirectory, make_checkpoint: MakeCheckpoint) -> str:
    """Tries to save the state outside of the run directory; returns how to continue the run."""
    try:
        saved = _save_in_temporary_directory(make_checkpoint)
    except (OSError, PtblmError):
        return _how_to_continue_without_state(directory)
    move = shell_join(["mv", str(saved), str(directory.last)])
    return f"move the state, which was saved to {saved}: {move}; {resume_command(directory.path)}"


def _how_to_continue_without_state(directory: RunDirectory) -> str:
    with contextlib.suppress(OSError):  # the disk that failed may contain the directory
        checkpoints = directory.all_checkpoints()
        if not checkpoints:
            return f"start again, as there is no earlier checkpoint: {restart_command(directory)}"
        newest = max(checkpoints, key=lambda path: path.stat().st_mtime)
        return f"continue from {newest.name}: {resume_command(directory.path)}"
    return f"resume the run: {resume_command(directory.path)}"


def _save_in_temporary_directory(make_checkpoint: MakeCheckpoint) -> Path:
    path = Path(tempfile.mkdtemp(prefix="ptblm-"))
    try:
        return _save_in(path, make_checkpoint)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def _save_in(path: Path, make_checkpoint: MakeCheckpoint) -> Path:
    """Saves the state as the last checkpoint of a run directory, which may be new."""
    rescued = RunDirectory(path)
    rescued.checkpoints.mkdir(parents=True, exist_ok=True)
    save_checkpoint(rescued.last, make_checkpoint())
    return rescued.last


def _unused(path: Path) -> Path:
    """Returns the first of NAME-2, NAME-3, ... that does not exist."""
    numbers = (path.with_name(f"{path.name}-{number}") for number in itertools.count(2))
    return next(candidate for candidate in numbers if not os.path.lexists(candidate))
