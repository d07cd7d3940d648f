"""Records that the trainer yields. Consumers decide how to report them."""

from collections.abc import Sequence
from dataclasses import dataclass

from ptblm.corpus.layout import Split
from ptblm.evaluation.score import Score, perplexity


@dataclass(frozen=True)
class StepDone:
    """A completed step or, with CUDA graphs, the last of several steps that are read together.

    Attributes:
        epoch: current epoch, from 1.
        batch: completed batches of the epoch.
        batches: batches in an epoch.
        step: steps since the start of the run.
        learning_rate: learning rate of the step.
        nll: loss summed over the targets of the step, in nats.
        tokens: targets in the step.
        grad_norm: global gradient norm before clipping; None if fp16 overflowed and the update
            was skipped.
        epoch_nll: loss summed over the epoch so far, in nats.
        epoch_tokens: targets of the epoch so far.
        epoch_seconds: training time of the epoch so far.
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
        """Perplexity of the epoch so far, as the tutorial reports it."""
        return perplexity(self.epoch_nll, self.epoch_tokens)

    @property
    def tokens_per_second(self) -> float:
        """Training speed in the epoch so far."""
        return self.epoch_tokens / max(self.epoch_seconds, 1e-9)


@dataclass(frozen=True)
class Evaluating:
    """Progress of an evaluation.

    Attributes:
        split: the split.
        score: the cumulative score.
        total_tokens: total number of targets.
        of_best: whether the model is that of the best epoch, instead of the model in training.
    """

    split: Split
    score: Score
    total_tokens: int
    of_best: bool = False


@dataclass(frozen=True)
class EpochDone:
    """A completed epoch: a pass over the training text, followed by validation.

    Attributes:
        epoch: number of the epoch, from 1.
        step: steps since the start of the run.
        learning_rate: learning rate of the last step.
        train_perplexity: perplexity over the epoch, with dropout, while the weights change.
        valid_perplexity: validation perplexity with the weights at the end of the epoch, or with
            their average once it exists.
        seconds: training time without validation.
        tokens_per_second: training speed.
        best: whether this is the lowest validation perplexity so far.
        averaged: number of steps in the average of the weights that was validated; 0 if it was
            not an average.
    """

    epoch: int
    step: int
    learning_rate: float
    train_perplexity: float
    valid_perplexity: float
    seconds: float
    tokens_per_second: float
    best: bool
    averaged: int = 0


def best_epoch(history: Sequence[EpochDone]) -> EpochDone:
    """Returns the epoch with the lowest validation perplexity; the first of equals."""
    return min(history, key=lambda done: done.valid_perplexity)


@dataclass(frozen=True)
class RunDone:
    """The end of a run.

    Attributes:
        step: steps since the start of the run.
        score: the score of the test split with the weights of the last epoch, or their average;
            None if there is no test split, or `run.test` is false.
        best_score: the score of the test split with the weights of the best epoch; None if that
            is the last epoch, or if the score is unknown.
    """

    step: int
    score: Score | None
    best_score: Score | None = None


Record = StepDone | Evaluating | EpochDone | RunDone
