"""The part of the training state that is not a tensor: progress and metrics."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.training.records import EpochDone


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
    def from_dict(
        cls, saved: Mapping[str, Any], *, batches: int | None, tokens_per_batch: int
    ) -> "TrainState":
        """Restores the state that `as_dict` returned.

        Args:
            saved: plain data from a checkpoint.
            batches: batches in an epoch of the run; None if the text is not known.
            tokens_per_batch: targets in a batch of the run.

        Raises:
            StructureMismatchError: if a value is missing, unknown, of an unexpected type, or
                inconsistent with the number and size of the batches.
        """
        check_structure(asdict(cls()), dict(saved), "train_state", {"train_state.history"})
        for index, done in enumerate(saved["history"]):
            check_structure(asdict(_ANY_EPOCH), done, f"train_state.history.{index}")
        history = [EpochDone(**done) for done in saved["history"]]
        state = cls(**{**saved, "history": history})
        if batches is None:  # the state tells, unless it is in the first epoch
            in_epochs = state.step - state.batch
            batches = in_epochs // state.epoch if state.epoch > 0 else max(1, state.batch)
        consistent = (
            state.epoch == len(history)
            and [done.epoch for done in history] == list(range(1, state.epoch + 1))
            and all(done.train_perplexity > 0 and done.valid_perplexity > 0 for done in history)
            and batches > 0
            and state.step == state.epoch * batches + state.batch
            and 0 <= state.batch <= batches
            and state.tokens == state.batch * tokens_per_batch
            and 0 <= state.nll < math.inf
            and 0 <= state.seconds < math.inf
        )
        if not consistent:
            raise StructureMismatchError(
                "train_state: not a state that a run on this text can be in"
            )
        return state


_ANY_EPOCH = EpochDone(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, best=False)
