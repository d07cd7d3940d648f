"""Scores independent sequences of tokens in batches of similar length.

Batches of 64 are about twice as fast as one sequence at a time on one CPU thread (docs/guide.md).

Shapes: B sequences, T time, N tokens, H features, S values of a hidden state.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.token_scores import Measures, TokenScores, concatenate, token_scores
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState

BATCH_SIZE = 64
# Elements of the largest tensor of a recurrent layer of a batch: its gates. 16 MB in fp32.
_ELEMENTS = 2**22


def score_sequences(
    model: LanguageModel,
    sequences: Sequence[Ids],
    context: int,
    *,
    measures: Measures | None = None,
    batch_size: int = BATCH_SIZE,
    hidden_state: HiddenState | None = None,
) -> list[TokenScores]:
    """Scores independent sequences of tokens, sorted by length and in batches.

    Args:
        model: the model, in evaluation mode.
        sequences: the ids of each sequence, at least one, all of which are scored.
        context: id of the token before the first token of each sequence.
        measures: what to compute besides -log p.
        batch_size: B, sequences that are scored at once.
        hidden_state: the hidden state of one sequence before the context, from which each sequence
            starts; None for the state at the start of a text.

    Returns:
        The scores of each sequence, in order.
    """
    found: dict[int, TokenScores] = {}
    order = sorted(range(len(sequences)), key=lambda index: -len(sequences[index]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        scores = _score_batch(
            model,
            [sequences[index] for index in batch],
            context,
            measures or Measures(),
            hidden_state,
        )
        found.update(zip(batch, scores, strict=True))
    return [found[index] for index in range(len(sequences))]


def _score_batch(
    model: LanguageModel,
    sequences: list[Ids],
    context: int,
    measures: Measures,
    start_state: HiddenState | None,
) -> list[TokenScores]:
    """Scores sequences of non-increasing length, [B], all with the same context."""
    sizes = np.array([len(ids) for ids in sequences])
    before = np.full(len(sequences), context)  # the id before a piece, [B]
    parts: list[list[TokenScores]] = [[] for _ in sequences]
    hidden_state = (
        model.initial_state(len(sequences))
        if start_state is None
        else tuple(
            tuple(part.repeat_interleave(len(sequences), dim=0) for part in layer)
            for layer in start_state
        )
    )
    size = _ELEMENTS // (4 * model.head.num_features) // len(sequences)
    steps = 1 if measures.states else max(1, size)
    for start in range(0, sizes[0], steps):
        rows = int((sizes > start).sum())
        hidden_state = tuple(tuple(part[:rows] for part in layer) for layer in hidden_state)
        lengths = np.minimum(sizes[:rows] - start, steps)
        targets = np.zeros((rows, lengths[0]), dtype=np.int64)  # [B, T]
        for row, ids in zip(targets, sequences, strict=False):
            piece = ids[start : start + steps]
            row[: len(piece)] = piece
        inputs = np.concatenate([before[:rows, None], targets[:, :-1]], axis=1)
        scores, hidden_state = score_piece(model, inputs, targets, lengths, hidden_state, measures)
        before = targets[:, -1]
        for part, score in zip(parts[:rows], scores, strict=True):
            part.append(score)
    return [concatenate(part) for part in parts]


def score_piece(
    model: LanguageModel,
    inputs: Ids,
    targets: Ids,
    lengths: NDArray[np.int64],
    hidden_state: HiddenState,
    measures: Measures,
) -> tuple[list[TokenScores], HiddenState]:
    """Scores a piece of a batch, [B, T], of which each line has its own length, [B].

    Returns:
        The scores of each line, and the hidden state after T tokens.
    """
    device = next(model.parameters()).device
    with torch.inference_mode():
        features, hidden_state = model.features(_on(device, inputs).int(), hidden_state)
        is_token = torch.arange(inputs.shape[1])[None] < torch.from_numpy(lengths)[:, None]
        is_token = is_token.to(device)  # [B, T]
        rows = features.transpose(0, 1)[is_token]  # [N, H]
        scores = token_scores(model.head, rows, _on(device, targets)[is_token], measures)
        if measures.states:  # then T is 1
            states = torch.cat([part for layer in hidden_state for part in layer], dim=1)  # [B, S]
            scores = replace(scores, states=states.float().cpu().numpy())
    ends = np.cumsum(lengths).tolist()
    return [scores[start:end] for start, end in zip([0, *ends], ends, strict=False)], hidden_state


def _on(device: torch.device, ids: Ids) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(ids)).to(device)
