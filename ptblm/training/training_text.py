"""The training text: which tokens each batch of each epoch contains.

The batches of an epoch are a function of the text, the config and the number of the epoch, so a
resumed run trains on the same batches as an uninterrupted run.

Shapes: B streams of L tokens; T time steps of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ptblm.backend.randomness import derive_seed
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import Batches, random_bounds
from ptblm.evaluation.scorer import on_device
from ptblm.training.step import Batch


@dataclass(frozen=True)
class EpochText:
    """The batches of one epoch.

    Attributes:
        streams: token ids of the streams of this process, [B, L].
        bounds: the first column of each batch, followed by that of the last target.
        offsets: the column of each stream that the epoch begins with, [B]; None for the first.
        global_size: streams of all processes; None for the B of this one.
    """

    streams: Tensor
    bounds: Sequence[int]
    offsets: Tensor | None = None
    global_size: int | None = None

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, index: int) -> Batch:
        """Returns a batch, [B, T]."""
        start, end = self.bounds[index], self.bounds[index + 1]
        if self.offsets is None:
            text = self.streams[:, start : end + 1]
        else:
            rows = torch.arange(len(self.streams), device=self.streams.device)
            columns = torch.arange(start, end + 1, device=self.streams.device)
            columns = (columns + self.offsets[:, None]) % self.streams.shape[1]  # [B, T + 1]
            text = self.streams[rows[:, None], columns]
        return Batch(text[:, :-1].int(), text[:, 1:].long(), self.global_size)

    def count_targets(self, batches: int) -> int:
        """Returns the number of targets of all processes in the first batches."""
        return (self.global_size or len(self.streams)) * self.bounds[batches]


class TrainingText:
    """The training text, on the device of the run.

    Args:
        batches: the text, divided into the streams of all processes.
        config: the training config.
        device: the device.
        rows: the streams of this process.
    """

    def __init__(
        self,
        batches: Batches,
        config: TrainingConfig,
        device: torch.device,
        rows: slice = slice(None),
    ) -> None:
        self._streams = on_device(batches.streams[rows], device)
        self._global_size, self._rows = len(batches.streams), rows
        self._fixed = range(0, batches.inputs.shape[1] + 1, batches.num_steps)
        self._config = config
        self._epoch, self._text = 0, self._make(0)

    def epoch(self, epoch: int) -> EpochText:
        """Returns the batches of an epoch, counted from 0."""
        if epoch != self._epoch:
            self._epoch, self._text = epoch, self._make(epoch)
        return self._text

    def count_targets(self, epochs: int) -> int:
        """Returns the number of targets in the first epochs, of which each has the same number."""
        return epochs * self._text.count_targets(len(self._text))

    def count_batches(self, epochs: int) -> int:
        """Returns the number of batches in the first epochs."""
        if not self._config.random_num_steps:
            return epochs * len(self._text)
        return sum(len(self._bounds(epoch)) - 1 for epoch in range(epochs))

    def _make(self, epoch: int) -> EpochText:
        offsets = None
        if self._config.streams == "rotated":
            seed = derive_seed(self._config.seed, "streams", epoch)
            size, length = self._global_size, self._streams.shape[1]
            generator = torch.Generator().manual_seed(seed)
            offsets = torch.randint(length, (size,), generator=generator)[self._rows]
            offsets = offsets.to(self._streams.device)
        return EpochText(self._streams, self._bounds(epoch), offsets, self._global_size)

    def _bounds(self, epoch: int) -> Sequence[int]:
        if not self._config.random_num_steps:
            return self._fixed
        seed = derive_seed(self._config.seed, "num_steps", epoch)
        return random_bounds(self._streams.shape[1] - 1, self._config.num_steps, seed)
