"""The interface of reporters, which show a run, and the data that they receive."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ptblm.backend.device import SelectedDevice
from ptblm.config.schema import Config
from ptblm.corpus.corpus import Corpus
from ptblm.training.records import EpochDone, Record, RunDone
from ptblm.training.state import TrainState


@dataclass(frozen=True)
class RunInfo:
    """Describes a run when it starts or resumes.

    Attributes:
        path: the run directory.
        config: the config.
        corpus: the text.
        unit: name of a token: "word", "character", "byte" or "subword".
        parameters: number of trainable parameters.
        device: the device of the run.
        computing: device, threads, kernels, as in environment.json.
        train_state: progress of the run.
        initial_weights: the checkpoint with the initial weights of a new run; None if they are
            random, or if the run is resumed.
        learning_rate: learning rate of the next step; None if no step follows.
    """

    path: Path
    config: Config
    corpus: Corpus
    unit: str
    parameters: int
    device: SelectedDevice
    computing: dict[str, Any]
    train_state: TrainState
    initial_weights: str | None
    learning_rate: float | None


@dataclass(frozen=True)
class RunResult:
    """The result of a finished run.

    Attributes:
        info: description of the run.
        history: one record for each epoch.
        test: the scores of the test split.
        best_checkpoint: path of the checkpoint of the best epoch.
    """

    info: RunInfo
    history: list[EpochDone]
    test: RunDone
    best_checkpoint: Path

    @property
    def stopped_early(self) -> bool:
        """Whether early stopping ended training before all epochs were completed."""
        return len(self.history) < self.info.config.training.epochs


class Reporter(Protocol):
    """Shows a run while it is in progress."""

    def start(self, info: RunInfo) -> None:
        """Called once, before the first step."""

    def write(self, record: Record) -> None:
        """Called for each record."""

    def stopping(self) -> None:
        """Called in a signal handler, once the first stop signal was received."""

    def finish(self, result: RunResult) -> None:
        """Called after the test evaluation."""

    def close(self) -> None:
        """Called at the end of the run, whether it finished, stopped or failed."""


class SilentReporter:
    """Shows nothing."""

    def start(self, info: RunInfo) -> None:
        """Does nothing."""

    def write(self, record: Record) -> None:
        """Does nothing."""

    def stopping(self) -> None:
        """Does nothing."""

    def finish(self, result: RunResult) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""
