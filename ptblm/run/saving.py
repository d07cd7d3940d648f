"""Saves a run's checkpoints when they are due; a disk that refuses is no reason to stop."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, save_checkpoint
from ptblm.errors import CheckpointError, DamagedCheckpointError
from ptblm.run.directory import RunDirectory


class CheckpointInterval:
    """When the next checkpoint is due.

    Args:
        every: "5 minutes" or "200 steps".
        step: the run's, now.
    """

    def __init__(self, every: str, step: int) -> None:
        number, unit = every.split()
        self._steps = int(number) if unit.startswith("step") else None
        self._seconds = 60.0 * int(number)
        self.restart(step)

    def is_due(self, step: int) -> bool:
        """Whether so many steps or minutes have passed since the last."""
        if self._steps is not None:
            return step - self._last_step >= self._steps
        return time.monotonic() - self._last_time >= self._seconds

    def restart(self, step: int) -> None:
        """Counts from here."""
        self._last_step = step
        self._last_time = time.monotonic()


def save_or_warn(path: Path, make: Callable[[], Checkpoint]) -> bool:
    """Saves in the middle of a run: if that fails the old checkpoint stays, and a warning.

    Returns:
        Whether it was saved.
    """
    try:
        save_checkpoint(path, make())
    except (OSError, DamagedCheckpointError) as error:
        print(f"warning: {path} was not saved ({error}); going on", file=sys.stderr)
        return False
    return True


def keep_numbered(directory: RunDirectory, step: int, keep: int) -> None:
    """Keeps the last checkpoint under its step's number, and so many of these in all."""
    if keep == 0:
        return
    numbered = directory.numbered(step)
    try:
        numbered.unlink(missing_ok=True)
        # A link costs nothing: the next save replaces the last checkpoint's name, not its bytes.
        os.link(directory.last, numbered)
        for old in sorted(directory.checkpoints.glob("step-*.safetensors"))[:-keep]:
            old.unlink()
    except OSError as error:
        print(f"warning: {numbered} was not kept ({error}); going on", file=sys.stderr)


def save_or_fail(path: Path, make: Callable[[], Checkpoint]) -> bool:
    """Saves where nothing comes after that could make up for a failure.

    Returns:
        True: it was saved.

    Raises:
        CheckpointError: if it fails.
    """
    try:
        save_checkpoint(path, make())
    except OSError as error:
        intact = path.is_file()
        raise CheckpointError(
            f"the last checkpoint could not be saved: {error.strerror or error}",
            where=str(path),
            hint="the one before is intact: make room, then --resume"
            if intact
            else "there is none before it: make room, then start anew",
        ) from None
    return True
