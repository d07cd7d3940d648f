"""Batches and streams: how a text is divided into contiguous streams, for training and evaluation.

Shapes: N tokens in the text, B batch_size, T num_steps.
"""

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from ptblm.corpus.vocabulary import Ids
from ptblm.errors import DataError


@dataclass(frozen=True)
class Batches:
    """The batches of one epoch, in text order.

    Attributes:
        streams: ids, [B, N // B]; row b is one contiguous part of the text. The tokens at its end
            that do not fill a batch are not used.
        num_steps: T.
    """

    streams: Ids
    num_steps: int

    @property
    def inputs(self) -> Ids:
        """The ids of each stream that are inputs of a batch, [B, len(self) * T]."""
        return self.streams[:, : len(self) * self.num_steps]

    @property
    def targets(self) -> Ids:
        """The id that follows each id of `inputs`, in the same shape."""
        return self.streams[:, 1 : len(self) * self.num_steps + 1]

    @property
    def tokens(self) -> int:
        """Number of targets in a batch, B * T."""
        return len(self.streams) * self.num_steps

    def __len__(self) -> int:
        return (int(self.streams.shape[1]) - 1) // self.num_steps

    def __getitem__(self, step: int) -> tuple[Ids, Ids]:
        """Returns the inputs and targets of one batch, each [B, T]."""
        columns = self.columns(step)
        return self.inputs[:, columns], self.targets[:, columns]

    def columns(self, step: int) -> slice:
        """Returns the columns of one batch in `inputs` and `targets`."""
        if not 0 <= step < len(self):
            raise IndexError(step)
        return slice(step * self.num_steps, (step + 1) * self.num_steps)


def batchify(ids: Ids, batch_size: int, num_steps: int, split: str) -> Batches:
    """Divides `ids` [N] into batches, as the TensorFlow tutorial's reader does.

    The text becomes B streams of N // B tokens, which contain (N // B - 1) // T batches. The
    remaining tokens at the end of the text and of each stream are dropped. The result is a view.

    Args:
        ids: token ids, [N].
        batch_size: B.
        num_steps: T.
        split: name of the text in messages.

    Raises:
        DataError: if the text is shorter than one batch.
    """
    stream_length = len(ids) // batch_size
    steps = (stream_length - 1) // num_steps
    if steps < 1:
        raise DataError(
            f"the {split} split has {len(ids):,} tokens; one batch of {batch_size:,} streams x "
            f"{num_steps:,} steps needs {batch_size * (num_steps + 1):,}",
            hint=_suggestion(len(ids), num_steps),
        )
    streams = ids[: batch_size * stream_length].reshape(batch_size, stream_length)
    return Batches(streams, num_steps)


def random_bounds(targets: int, num_steps: int, seed: int) -> list[int]:
    """Divides the targets of a stream into windows of random length.

    The base length is `num_steps` with probability 0.95 and half of it otherwise. The length is
    drawn from a normal distribution around the base length with a standard deviation of 5, and is
    at least 5. It has no upper limit. The last window ends with the stream, so every target is used
    once. Source: Merity et al. 2018, arXiv:1708.02182, section 5; the limits are those of their
    program.

    Args:
        targets: number of targets of a stream, at least 1.
        num_steps: T.
        seed: seed of the lengths.

    Returns:
        The first column of each window, followed by `targets`.
    """
    generator = np.random.default_rng(seed)
    bounds = [0]
    while bounds[-1] < targets:
        count = (targets - bounds[-1]) // num_steps + 1
        base = np.where(generator.random(count) < 0.95, num_steps, num_steps / 2)
        lengths = np.maximum(generator.normal(base, 5).astype(np.int64), 5)
        bounds += (bounds[-1] + lengths.cumsum()).tolist()
    return [*bounds[: bisect_left(bounds, targets)], targets]


def count_dropped(tokens: int, batch_size: int, num_steps: int) -> int:
    """Returns the number of tokens, without the first, that are not a target in any batch."""
    steps = (tokens // batch_size - 1) // num_steps
    return tokens - 1 - batch_size * num_steps * steps


def count_streams(tokens: int, batch_size: int, num_steps: int, name: str) -> int:
    """Returns the number of streams in which a text is evaluated.

    It is B, or less if the text is short, so that each stream has at least T targets. One stream
    is enough for any text of two tokens.

    Args:
        tokens: N.
        batch_size: B.
        num_steps: T.
        name: name of the text in messages, such as "valid split".

    Raises:
        DataError: if the text has fewer than two tokens.
    """
    if tokens < 2:
        raise DataError(f"the {name} has fewer than two tokens", hint="use a longer text")
    return max(1, min(batch_size, (tokens - 1) // num_steps))


def _suggestion(tokens: int, num_steps: int) -> str:
    largest_batch = tokens // (num_steps + 1)
    if largest_batch >= 1:
        return f"set training.batch_size to {largest_batch} or less"
    if tokens >= 2:
        return f"set training.batch_size to 1 and training.num_steps to {tokens - 1} or less"
    return "use a longer text"
