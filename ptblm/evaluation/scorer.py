"""Scores a text with a model, the state carried from its first token to its last.

Whatever precision a run trains in, this computes in that of the weights, which is fp32.

Shapes: B streams, L tokens in each, V vocabulary.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ptblm.corpus.batches import Batches
from ptblm.evaluation.score import Score
from ptblm.model.language_model import LanguageModel

# Logits of one chunk, or one layer's gates where these are more, in numbers: 16 MB, beyond which
# nothing gets faster, and an interruption waits no longer than a chunk takes.
_NUMBERS_PER_CHUNK = 2**22


def on_device(batches: Batches, device: torch.device) -> tuple[Tensor, Tensor]:
    """Inputs and targets of all steps, [B, L], where a step finds them without a transfer.

    The CPU takes them from where they are, be that a file, in their own type, which is not one to
    compute with. To another device they go once, as int32.
    """
    streams = torch.from_numpy(batches.streams)
    if device.type != "cpu":
        streams = streams.int().to(device)
    return streams[:, :-1], streams[:, 1:]


def running_scores(
    model: LanguageModel,
    inputs: Tensor,
    targets: Tensor,
    *,
    marks: Mapping[str, int] | None = None,
    chunk_steps: int | None = None,
) -> Iterator[Score]:
    """Yields the score of all the text so far, chunk by chunk; the last is the whole text's.

    The state starts as the model's does and is carried, so the chunks' length changes memory and
    speed but not the value.

    Args:
        model: the model; it is left as it was.
        inputs: ids of any integer type, [B, L].
        targets: the ids that follow them, [B, L].
        marks: ids whose share of the score is kept apart, by the share's name.
        chunk_steps: steps per chunk; None chooses by memory.
    """
    batch_size, length = inputs.shape
    vocab_size, hidden_size = model.head.weight.shape
    widest = max(vocab_size, 4 * hidden_size)
    chunk_steps = chunk_steps or max(1, _NUMBERS_PER_CHUNK // widest // batch_size)
    state = model.initial_state(batch_size)
    score = Score()
    for start in range(0, length, chunk_steps):
        columns = slice(start, start + chunk_steps)
        # Not around the whole loop: the consumer's code runs between the chunks.
        with torch.inference_mode():
            chunk_targets = targets[:, columns].long()
            nll, state = model.nll(inputs[:, columns].int(), chunk_targets, state)
            score += _summed(nll.double(), chunk_targets, marks or {})
        yield score


def _summed(nll: Tensor, targets: Tensor, marks: Mapping[str, int]) -> Score:
    """The score of targets ([B, T]) that cost `nll` ([B, T]) each."""
    sums = [nll.sum()]
    for index in marks.values():
        marked = targets == index
        sums += [nll[marked].sum(), marked.sum().double()]
    whole, *parts = torch.stack(sums).tolist()  # one transfer for all
    shares = zip(marks, parts[::2], parts[1::2], strict=True)
    return Score(whole, nll.numel(), {mark: Score(part, int(n)) for mark, part, n in shares})
