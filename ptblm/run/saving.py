"""Saves the checkpoints of a run. A failed save does not stop the run."""

import contextlib
import logging
import os
import shutil
import time
from pathlib import Path

from ptblm.checkpoint.format import save_checkpoint
from ptblm.config.run import RunConfig
from ptblm.errors import CheckpointError, DamagedCheckpointError
from ptblm.files import advice, replacing
from ptblm.run.directory import RunDirectory
from ptblm.run.rescue import MakeCheckpoint, check_place, how_to_continue
from ptblm.training.records import EpochDone, Evaluating, Record, StepDone
from ptblm.training.trainer import Trainer

logger = logging.getLogger(__name__)


class CheckpointSaver:
    """Saves a checkpoint at each interval, after every epoch, and at the counts of `run.keep_at`.

    Args:
        directory: the run directory.
        config: the `run` section of the config.
        make_checkpoint: returns a checkpoint of the current state.
        trainer: the trainer of the run.
    """

    def __init__(
        self,
        directory: RunDirectory,
        config: RunConfig,
        make_checkpoint: MakeCheckpoint,
        trainer: Trainer,
    ) -> None:
        self._directory = directory
        self._keep = config.keep_checkpoints
        self._make_checkpoint = make_checkpoint
        self._trainer = trainer
        self._interval = CheckpointInterval(config.checkpoint_every, trainer.train_state.step)
        trained = trained_tokens(trainer)
        self._keep_at = sorted(count for count in set(config.keep_at or []) if count > trained)
        end = trainer.training_text.count_targets(trainer.config.epochs)
        if self._keep_at and self._keep_at[-1] > end:
            logger.warning(
                f"run.keep_at: the run ends after {end:,} training tokens, before "
                f"{self._keep_at[-1]:,}"
            )

    def is_due(self, record: Record) -> bool:
        """Returns whether `write` saves a checkpoint after a record."""
        if isinstance(record, EpochDone):
            return True
        if not isinstance(record, StepDone | Evaluating):
            return False
        keeps = isinstance(record, StepDone) and self._is_count_reached()
        return keeps or self._interval.is_due(self._step)

    def write(self, record: Record) -> None:
        """Saves the checkpoints that are due after a record.

        Raises:
            CheckpointError: if the save after the last epoch fails.
        """
        if isinstance(record, StepDone):
            self._keep_if_due()
        if isinstance(record, EpochDone):
            if record.best:
                save_or_warn(self._directory, self._directory.best, self._make_checkpoint)
            # No epoch follows the last one, so its save must succeed.
            self._save_last(must_succeed=self._trainer.is_trained)
        elif self._interval.is_due(self._step):
            self._save_last(must_succeed=False)

    @property
    def _step(self) -> int:
        return self._trainer.train_state.step

    def _keep_if_due(self) -> None:
        """Keeps a checkpoint for each count of `run.keep_at` that the last step reached."""
        while self._is_count_reached():
            path = self._directory.at_tokens(self._keep_at.pop(0))
            save_or_warn(self._directory, path, self._make_checkpoint)

    def _is_count_reached(self) -> bool:
        return bool(self._keep_at) and trained_tokens(self._trainer) >= self._keep_at[0]

    def save_requested(self, signal_name: str) -> None:
        """Saves a checkpoint because a signal requested it; training continues."""
        if self._save_last(must_succeed=False):
            logger.info(f"{signal_name}: saved {self._directory.last}, step {self._step:,}")

    def save_now(self) -> None:
        """Saves the last checkpoint before the run stops.

        Raises:
            CheckpointError: if the save fails.
        """
        save_or_raise(self._directory, self._make_checkpoint)

    def check_place(self) -> None:
        """Saves the state elsewhere if the run directory is no longer at its path.

        Raises:
            CheckpointError: if it is not. The state was saved.
        """
        with contextlib.suppress(OSError):
            check_place(self._directory, self._make_checkpoint)

    def _save_last(self, *, must_succeed: bool) -> bool:
        """Saves the last checkpoint and a numbered one; returns whether it was saved."""
        saved = True
        if must_succeed:
            save_or_raise(self._directory, self._make_checkpoint)
        else:
            saved = save_or_warn(self._directory, self._directory.last, self._make_checkpoint)
        if saved:
            keep_numbered(self._directory, self._step, self._keep)
        self._interval.restart(self._step)
        return saved


def trained_tokens(trainer: Trainer) -> int:
    """Returns the number of targets since the start of the run."""
    state = trainer.train_state
    return trainer.training_text.count_targets(state.epoch) + state.tokens


class CheckpointInterval:
    """Determines when the next checkpoint is due.

    Args:
        every: the interval, such as "5 minutes" or "200 steps".
        step: completed steps of the run.
    """

    def __init__(self, every: str, step: int) -> None:
        number, unit = every.split()
        self._steps = int(number) if unit.startswith("step") else None
        self._seconds = 60.0 * int(number)
        self.restart(step)

    def is_due(self, step: int) -> bool:
        """Returns whether the interval has passed since the last restart."""
        if self._steps is not None:
            return step - self._last_step >= self._steps
        return time.monotonic() - self._last_time >= self._seconds

    def restart(self, step: int) -> None:
        """Restarts the interval."""
        self._last_step = step
        self._last_time = time.monotonic()


def save_or_warn(directory: RunDirectory, path: Path, make_checkpoint: MakeCheckpoint) -> bool:
    """Saves a checkpoint. On failure, logs a warning and keeps the previous checkpoint.

    Returns:
        Whether the checkpoint was saved.

    Raises:
        CheckpointError: if the run directory was moved or deleted. The state was saved.
    """
    try:
        check_place(directory, make_checkpoint)
        save_checkpoint(path, make_checkpoint())
        logger.debug(f"saved {path}")
    except (OSError, DamagedCheckpointError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error.what
        logger.warning(f"{path} was not saved ({reason}); training continues")
        return False
    return True


def save_or_raise(directory: RunDirectory, make_checkpoint: MakeCheckpoint) -> None:
    """Saves the last checkpoint when it must not fail, because no later save follows.

    Raises:
        CheckpointError: if the save fails, or the run directory was moved or deleted. The state was
            saved elsewhere if possible.
    """
    try:
        check_place(directory, make_checkpoint)
        save_checkpoint(directory.last, make_checkpoint())
        logger.debug(f"saved {directory.last}")
    except (OSError, DamagedCheckpointError) as error:
        reason = error.strerror or error if isinstance(error, OSError) else error.what
        todo = advice(error) if isinstance(error, OSError) else "check the disk"
        raise CheckpointError(
            f"the last checkpoint could not be saved: {reason}",
            where=str(directory.last),
            hint=f"{todo}, then {how_to_continue(directory, make_checkpoint)}",
        ) from None


def keep_numbered(directory: RunDirectory, step: int, keep: int) -> None:
    """Copies the last checkpoint to its step number; deletes all but the `keep` newest copies."""
    if keep == 0:
        return
    numbered = directory.numbered(step)
    try:
        _link_or_copy(directory.last, numbered)
        for old in sorted(directory.checkpoints.glob("step-*.safetensors"))[:-keep]:
            old.unlink()
    except OSError as error:
        logger.warning(f"{numbered} was not kept ({error}); training continues")


def _link_or_copy(source: Path, target: Path) -> None:
    """Creates a hard link, which costs nothing: a save replaces the file name, not the content.

    A file system without hard links gets a copy.
    """
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with source.open("rb") as original, replacing(target) as copy:
            shutil.copyfileobj(original, copy, 2**20)
