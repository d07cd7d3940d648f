"""Where a run is, all of it that is no tensor."""

from dataclasses import dataclass, field

from ptblm.training.records import EpochDone


@dataclass
class TrainState:
    """Where a run is.

    Attributes:
        epoch: epochs wholly done, validation included.
        batch: batches of the current epoch that are done.
        step: updates since the run began.
        nll: summed over the current epoch so far, in nats.
        tokens: targets of the current epoch so far.
        seconds: spent on training in the current epoch so far.
        history: an `EpochDone` for each epoch done.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    nll: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    history: list[EpochDone] = field(default_factory=list)
