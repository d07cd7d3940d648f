"""Scores a text with a model and carries the hidden state from the first token to the last.

Scores are computed in fp32, regardless of the training precision.

Shapes: B streams, L tokens of a stream, T tokens of a chunk.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ptblm.corpus.batches import Batches
from ptblm.evaluation.score import Score
from ptblm.model.language_model import LanguageModel

# Elements of the largest tensor of a chunk: its logits, or the gates of one layer. 16 MB in fp32.
# Larger chunks are not faster and delay the response to a stop signal.
_ELEMENTS_PER_CHUNK = 2**22


def on_device(batches: Batches, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the inputs and targets of all steps, [B, L], on `device`.

    On the CPU, the tensors share memory and integer type with the text, which may be a mapped file.
    On another device, they are copied once, as int32, so that no step waits for a transfer.
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
    special_ids: Mapping[str, int] | None = None,
    chunk_steps: int | None = None,
) -> Iterator[Score]:
    """Yields the cumulative score after each chunk. The last score is the score of the text.

    The hidden state is carried from chunk to chunk, so the size of the chunks affects memory and
    speed but not the result.

    Args:
        model: the model; it is not modified.
        inputs: token ids of any integer type, [B, L].
        targets: the ids that follow the inputs, [B, L].
        special_ids: ids of the special tokens that `Score.breakdown` scores separately, by token.
        chunk_steps: tokens of a stream per chunk; None selects a size that bounds memory.
    """
    batch_size, length = inputs.shape
    vocab_size, hidden_size = model.head.weight.shape
    widest = max(vocab_size, 4 * hidden_size)
    chunk_steps = chunk_steps or max(1, _ELEMENTS_PER_CHUNK // widest // batch_size)
    hidden_state = model.initial_state(batch_size)
    score = Score()
    for start in range(0, length, chunk_steps):
        columns = slice(start, start + chunk_steps)
        # Entered for each chunk, because the consumer between chunks may need gradients.
        with torch.inference_mode():
            chunk_targets = targets[:, columns].long()
            nll, hidden_state = model.nll(inputs[:, columns].int(), chunk_targets, hidden_state)
            score += _chunk_score(nll.double(), chunk_targets, special_ids or {})
        yield score


def _chunk_score(nll: Tensor, targets: Tensor, special_ids: Mapping[str, int]) -> Score:
    """Returns the score of a chunk, given -log p and the targets, both [B, T]."""
    sums = [nll.sum()]
    for index in special_ids.values():
        is_special = targets == index  # [B, T]
        sums += [nll[is_special].sum(), is_special.sum().double()]
    total, *parts = torch.stack(sums).tolist()  # one transfer from the device
    breakdown = {
        token: Score(part, int(count))
        for token, part, count in zip(special_ids, parts[::2], parts[1::2], strict=True)
    }
    return Score(total, nll.numel(), breakdown)
