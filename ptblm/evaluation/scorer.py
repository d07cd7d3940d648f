"""Scores a text with a model and carries the hidden state from the first token to the last.

Scores are computed in fp32, regardless of the training precision.

Shapes: N tokens of the text, S streams of L targets, B streams of a chunk of T tokens.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.score import Score
from ptblm.model.language_model import LanguageModel

# Elements of the largest tensor of a chunk: its logits, or the gates of one layer. 16 MB in fp32.
# Larger chunks are not faster and delay the response to a stop signal.
_ELEMENTS_PER_CHUNK = 2**22


def on_device(ids: Ids, device: torch.device) -> Tensor:
    """Returns token ids of any shape as a tensor on `device`.

    On the CPU, the tensors share memory and integer type with the text, which may be a mapped file.
    On another device, they are copied once, as int32, so that no step waits for a transfer.
    """
    tensor = torch.from_numpy(ids)
    return tensor if device.type == "cpu" else tensor.int().to(device)


def default_chunk_steps(model: LanguageModel) -> int:
    """Returns the tokens of a chunk, for which its largest tensor has a bounded size."""
    head = model.head
    return max(1, _ELEMENTS_PER_CHUNK // max(head.logits_per_target, 4 * head.num_features))


def running_scores(
    model: LanguageModel,
    ids: Tensor,
    streams: int = 1,
    *,
    special_ids: Mapping[str, int] | None = None,
    chunk_steps: int | None = None,
    world: World = ONE_PROCESS,
) -> Iterator[Score]:
    """Yields the cumulative score after each chunk. The last score is the score of the text.

    The text is divided into streams of equal length, which are scored in parallel. The last target
    of a stream is the first input of the next one, and the tokens that remain at the end of the
    text continue the last stream. So every token but the first is a target exactly once.

    The hidden state is carried from chunk to chunk, so the size of the chunks affects memory and
    speed but not the result.

    Args:
        model: the model; it is not modified.
        ids: token ids of any integer type, [N].
        streams: S, less than N.
        special_ids: ids of the special tokens that `Score.breakdown` scores separately, by token.
        chunk_steps: tokens of a stream per chunk; None selects a size that bounds memory.
        world: the processes that share the streams.
    """
    chunk_steps = chunk_steps or max(1, default_chunk_steps(model) // streams)
    rows = world.rows(streams)
    hidden_state = model.initial_state(rows.stop - rows.start)
    score = Score()
    for chunk in _chunks(ids, streams, chunk_steps, rows):
        # Entered for each chunk, because the consumer between chunks may need gradients.
        with torch.inference_mode():
            inputs, targets = chunk[:, :-1].int(), chunk[:, 1:].long()  # [B, T]
            # The remaining tokens are a chunk of one stream.
            hidden_state = tuple(
                tuple(part[-len(chunk) :] for part in layer) for layer in hidden_state
            )
            if len(chunk) > 0:
                nll, hidden_state = model.nll(inputs, targets, hidden_state)
            else:  # another process scores it
                nll = torch.zeros(targets.shape, device=targets.device)
            score += chunk_score(nll.double(), targets, special_ids or {}, world)
        yield score


def _chunks(ids: Tensor, streams: int, chunk_steps: int, rows: slice) -> Iterator[Tensor]:
    """Yields the text chunk by chunk, as views [B, T + 1] that overlap by one token.

    B is the number of streams in `rows`. The tokens that remain at the end of the text are the last
    chunk, with B = 1, or B = 0 if the last stream is not in `rows`.
    """
    length = (len(ids) - 1) // streams
    end = streams * length
    whole = ids[: end + 1].unfold(0, length + 1, length)[rows]  # [B, L + 1]
    for start in range(0, length, chunk_steps):
        yield whole[:, start : start + chunk_steps + 1]
    if end < len(ids) - 1:
        yield ids[None, end:] if rows.stop == streams else ids[None, end:][:0]


def chunk_score(
    nll: Tensor, targets: Tensor, special_ids: Mapping[str, int], world: World = ONE_PROCESS
) -> Score:
    """Returns the score of a chunk in all processes, given -log p and the targets, both [B, T]."""
    sums = [nll.sum(), nll.new_full((), nll.numel())]
    for index in special_ids.values():
        is_special = targets == index  # [B, T]
        sums += [nll[is_special].sum(), is_special.sum().double()]
    total, tokens, *parts = world.sum(torch.stack(sums)).tolist()  # one transfer from the device
    breakdown = {
        token: Score(part, int(count))
        for token, part, count in zip(special_ids, parts[::2], parts[1::2], strict=True)
    }
    return Score(total, int(tokens), breakdown)
