"""What the trainer says while it works. Whoever consumes these decides what becomes of them."""

from dataclasses import dataclass

from ptblm.corpus.splits import Split
from ptblm.evaluation.score import Score, perplexity


@dataclass(frozen=True)
class StepDone:
    """One update, or on a CUDA device the last one of a block of them.

    Attributes:
        epoch: from 1.
        batch: batches of this epoch that are done.
        batches: batches in an epoch.
        step: updates since the run began.
        learning_rate: of this update.
        nll: summed over this step's tokens, in nats.
        tokens: targets in this step.
        grad_norm: global norm before clipping; None where fp16 overflowed and no update was made.
        epoch_nll: summed over this epoch so far.
        epoch_tokens: targets of this epoch so far.
        epoch_seconds: spent on training in this epoch so far.
    """

    epoch: int
    batch: int
    batches: int
    step: int
    learning_rate: float
    nll: float
    tokens: int
    grad_norm: float | None
    epoch_nll: float
    epoch_tokens: int
    epoch_seconds: float

    @property
    def running_perplexity(self) -> float:
        """Over this epoch so far, as the tutorial reports it."""
        return perplexity(self.epoch_nll, self.epoch_tokens)

    @property
    def tokens_per_second(self) -> float:
        """Over this epoch so far."""
        return self.epoch_tokens / max(self.epoch_seconds, 1e-9)


@dataclass(frozen=True)
class Evaluating:
    """A part of a split has been scored."""

    split: Split
    score: Score
    total_tokens: int


@dataclass(frozen=True)
class EpochDone:
    """A pass over the training text, and its validation.

    Attributes:
        epoch: from 1.
        step: updates since the run began.
        learning_rate: of its last step.
        train_perplexity: over the epoch, dropout on, weights moving.
        valid_perplexity: with the weights at the epoch's end.
        seconds: spent on training, validation not included.
        tokens_per_second: of training.
        best: whether no epoch before had a valid perplexity as low.
    """

    epoch: int
    step: int
    learning_rate: float
    train_perplexity: float
    valid_perplexity: float
    seconds: float
    tokens_per_second: float
    best: bool


@dataclass(frozen=True)
class RunDone:
    """The test split, scored with the last epoch's weights."""

    step: int
    score: Score


Record = StepDone | Evaluating | EpochDone | RunDone
