"""The part of the training state that is not a tensor: progress and metrics."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.training import TrainingConfig
from ptblm.training.records import EpochDone
from ptblm.training.training_text import TrainingText


@dataclass
class TrainState:
    """Progress of a run.

    Attributes:
        epoch: completed epochs, including validation.
        batch: completed batches of the current epoch.
        step: updates since the start of the run.
        nll: loss summed over the current epoch so far, in nats.
        tokens: targets of the current epoch so far.
        seconds: training time of the current epoch so far.
        history: one `EpochDone` for each completed epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    history: list[EpochDone] = field(default_factory=list)

    @property
    def valid_perplexities(self) -> list[float]:
        """Validation perplexity after each completed epoch."""
        return [done.valid_perplexity for done in self.history]

    def as_dict(self) -> dict[str, Any]:
        """Returns the state as plain data for `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> "TrainState":
        """Restores the state that `as_dict` returned.

        Args:
            saved: plain data from a checkpoint.

        Raises:
            StructureMismatchError: if a value is missing, unknown, of an unexpected type, or
                impossible for every text.
        """
        check_structure(asdict(cls()), dict(saved), "train_state", {"train_state.history"})
        for index, done in enumerate(saved["history"]):
            check_structure(asdict(_ANY_EPOCH), done, f"train_state.history.{index}")
        history = [EpochDone(**done) for done in saved["history"]]
        state = cls(**{**saved, "history": history})
        is_possible = (
            state.epoch == len(history)
            and [done.epoch for done in history] == list(range(1, state.epoch + 1))
            and [done.step for done in history] == sorted({done.step for done in history})
            and (history[-1].step if history else 0) == state.step - state.batch
            and all(map(_is_possible, history))
            and 0 <= state.batch <= state.step - state.epoch
            and 0 <= state.nll < math.inf
            and 0 <= state.seconds < math.inf
        )
        if not is_possible:
            raise _wrong_progress()
        return state


def check_progress(state: TrainState, config: TrainingConfig, text: TrainingText | None) -> None:
    """Checks the progress of a state against the batches of the run.

    Args:
        state: the state.
        config: the training config of the run.
        text: the training text of the run; None if it is not known.

    Raises:
        StructureMismatchError: if no run on this text can be in the state.
    """
    before = state.step - state.batch  # batches of the completed epochs
    if text is not None:
        current = text.epoch(state.epoch)
        is_possible = (
            before == text.count_batches(state.epoch)
            and state.batch <= len(current)
            and state.tokens == current.count_targets(state.batch)
        )
    elif config.random_num_steps:
        is_possible = (
            state.tokens % config.batch_size == 0
            and state.tokens >= state.batch * config.batch_size
        )
    else:  # all epochs have the same number of batches
        batches = before // state.epoch if state.epoch > 0 else max(1, state.batch)
        is_possible = (
            before == state.epoch * batches
            and state.batch <= batches
            and state.tokens == state.batch * config.batch_size * config.num_steps
        )
    if not is_possible:
        raise _wrong_progress()


def _is_possible(done: EpochDone) -> bool:
    """Returns whether an epoch can have these metrics."""
    return (
        0 <= done.averaged <= done.step
        and done.train_perplexity > 0
        and done.valid_perplexity > 0
        and 0 <= done.learning_rate < math.inf
        and 0 <= done.seconds < math.inf
        and 0 <= done.tokens_per_second < math.inf
    )


def _wrong_progress() -> StructureMismatchError:
    """Returns the error of a state that no run can be in."""
    return StructureMismatchError("train_state: not a state that a run on this text can be in")


_ANY_EPOCH = EpochDone(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, best=False)
