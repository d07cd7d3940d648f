"""Averages of the weights over training steps, which are evaluated instead of the last weights.

The weights after an update are called an iterate. Averaging does not change them, so training takes
the same course with and without it, except that the plateau schedule and early stopping use the
valid perplexity of the average.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.averaging import (
    AverageConfig,
    EMAConfig,
    NoAverage,
    NTAverageConfig,
    TailAverageConfig,
    TwoTailedConfig,
)
from ptblm.model.language_model import LanguageModel
from ptblm.training.schedule import has_stopped_improving

# Names of the averages in a checkpoint: the one that is evaluated, and the short one of two-tailed
# averaging.
NAMES = ["average", "short_average"]


class RunningAverage:
    """The mean of iterates or, with a decay, their exponential moving average.

    With a decay d, the iterate w_i has the weight (1 - d) d^(n - i) / (1 - d^n) after n iterates,
    which is the bias correction of Adam (Kingma & Ba 2015, section 3).

    Args:
        model: the model in training.
        decay: decay of earlier iterates; None for the mean.

    Attributes:
        model: a copy of the model, with the averaged weights once `count` is at least 1.
        count: number of iterates in the average.
    """

    def __init__(self, model: LanguageModel, decay: float | None = None) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.count = 0
        self._decay = decay

    @torch.no_grad()
    def add(self, model: LanguageModel) -> None:
        """Adds the weights of a model: one pass over them, without waiting for the device."""
        self.count += 1
        weight = 1 / self.count
        if self._decay is not None:
            weight = (1 - self._decay) / (1 - self._decay**self.count)
        ours: list[Tensor] = list(self.model.parameters())
        theirs: list[Tensor] = list(model.parameters())
        torch._foreach_lerp_(ours, theirs, weight)
        for buffer, current in zip(self.model.buffers(), model.buffers(), strict=True):
            buffer.copy_(current)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the averaged weights, as a state of the model; empty without iterates."""
        return dict(self.model.state_dict()) if self.count else {}


class WeightAverages:
    """The averages of a run, as `training.average` selects them.

    Two-tailed averaging (Melis 2022, algorithm 1) updates a short and a long mean in every step.
    After each validation of both, if the short one is at least as good, it becomes the long one,
    and a new short one starts. The long mean is evaluated; it is at most about twice as long as the
    best mean of the last iterates. The extensions of algorithm 2 are not implemented.

    Args:
        model: the model in training.
        config: the config of the average.
    """

    def __init__(self, model: LanguageModel, config: AverageConfig) -> None:
        self._config = config
        decay = config.decay if isinstance(config, EMAConfig) else None
        self._averages = {name: RunningAverage(model, decay) for name in average_names(config)}

    @property
    def evaluated(self) -> RunningAverage | None:
        """The average to evaluate; None before it exists."""
        average = self._averages.get("average")
        return average if average and average.count else None

    @property
    def short(self) -> RunningAverage | None:
        """The short mean of two-tailed averaging; None before it exists."""
        average = self._averages.get("short_average")
        return average if average and average.count else None

    def add(self, model: LanguageModel, epochs: float, valid: Sequence[float]) -> None:
        """Adds the weights after an update, once averaging has started.

        Args:
            model: the model in training.
            epochs: passes over the training text before this update, such as 1.5.
            valid: valid perplexity after each completed epoch.
        """
        if self.evaluated or has_started(self._config, epochs, valid):
            for average in self._averages.values():
                average.add(model)

    def switch(self) -> None:
        """Evaluates the short mean of two-tailed averaging from now on, and restarts the long."""
        averages = self._averages
        averages["average"], averages["short_average"] = (
            averages["short_average"],
            averages["average"],
        )
        averages["short_average"].count = 0

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Returns the averaged weights by the name of the average, empty for one that is not."""
        saved: dict[str, dict[str, Tensor]] = {name: {} for name in NAMES}
        return saved | {name: average.state_dict() for name, average in self._averages.items()}

    def tensors(self) -> list[Tensor]:
        """Returns all averaged weights and, before averaging starts, their memory."""
        models = [average.model for average in self._averages.values()]
        return [tensor for model in models for tensor in (*model.parameters(), *model.buffers())]

    def counts(self) -> dict[str, int]:
        """Returns the number of iterates in each average."""
        return {name: average.count for name, average in self._averages.items()}

    def load_state_dict(
        self, saved: Mapping[str, Mapping[str, Tensor]], counts: Mapping[str, int]
    ) -> None:
        """Restores what `state_dict` and `counts` returned, after `check_averages`."""
        for name, average in self._averages.items():
            average.count = counts[name]
            if average.count:
                average.model.load_state_dict(dict(saved[name]))


def has_started(config: AverageConfig, epochs: float, valid: Sequence[float]) -> bool:
    """Returns whether averaging starts with the next update, unless it started before.

    Args:
        config: the config of the average.
        epochs: passes over the training text before the update, such as 1.5.
        valid: valid perplexity after each completed epoch.
    """
    match config:
        case TailAverageConfig(start=start, patience=patience):
            return (start is not None and epochs >= start) or has_stopped_improving(valid, patience)
        case NTAverageConfig(patience=patience):
            return is_non_monotonic(valid, patience)
    return True


def is_non_monotonic(valid: Sequence[float], patience: int) -> bool:
    """Returns whether the last perplexity is higher than the best, the `patience` before it aside.

    Source: AWD-LSTM (Merity et al. 2018), main.py: `len(log) > n and v > min(log[:-n])`, where the
    log does not contain v yet.
    """
    *log, last = valid or [math.inf]
    return len(log) > patience and last > min(log[:-patience])


def average_names(config: AverageConfig) -> list[str]:
    """Returns the names of the averages of a run."""
    if isinstance(config, TwoTailedConfig):
        return NAMES
    return [] if isinstance(config, NoAverage) else NAMES[:1]


def check_averages(
    config: AverageConfig,
    expected: Mapping[str, Tensor],
    saved: Mapping[str, Mapping[str, Tensor]],
    counts: Any,
    steps: int,
) -> None:
    """Checks saved averages.

    Args:
        config: the config of the average.
        expected: the state of the model.
        saved: averaged weights by the name of the average; empty for one that does not exist.
        counts: number of iterates in each average.
        steps: updates of the run, the largest possible number of iterates.

    Raises:
        StructureMismatchError: if they are not those of a run with this config and model.
    """
    check_structure(dict.fromkeys(average_names(config), 0), counts, "train_state.averaged")
    largest = [*counts.values(), 0, 0]
    if not steps >= largest[0] >= largest[1] >= 0:
        raise StructureMismatchError("train_state.averaged: not a state that a run can be in")
    for name, tensors in saved.items():
        check_structure(dict(expected) if counts.get(name) else {}, dict(tensors), name)
