"""Generates sequences of tokens from a model, step by step and in batches.

Sample i of a seed depends only on the seed and on i, because it has its own random numbers. Only
rounding depends on the batch size. The probability that it changes a drawn token is at most 1e-13
to 2e-12 in float64, and 1e-6 to 5e-5 in fp32 (measured; two layers of 200 units, 10,000 words).

Shapes: B samples of a batch, R of which have not ended, N tokens.
"""

import copy
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.sampling import Sampling, draw
from ptblm.evaluation.scorer import default_chunk_steps
from ptblm.evaluation.sequence_scores import BATCH_SIZE, score_piece
from ptblm.evaluation.stepwise import next_log_probs
from ptblm.evaluation.token_scores import Measures
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState

logger = logging.getLogger(__name__)

MAX_SEED = 2**64 - 1
# Elements of the log-probabilities of a batch. 32 MB in float64.
_ELEMENTS = 2**22


@dataclass(frozen=True)
class Start:
    """Where samples start: after a prompt.

    Attributes:
        token: the last token of the prompt, or the context of the first token.
        hidden_state: the hidden state before `token`, with a batch size of 1.
        nll: -log p of the prompt in nats.
    """

    token: int
    hidden_state: HiddenState
    nll: float


@dataclass(frozen=True)
class Length:
    """When a sample ends.

    Attributes:
        tokens: number of tokens after which a sample ends.
        line_ends: number of tokens that end a line after which a sample ends; None for any number.
    """

    tokens: int
    line_ends: int | None = None


@dataclass(frozen=True)
class Step:
    """The next token of each sample that has not ended.

    Attributes:
        rows: indices of these samples in the batch, [R].
        ids: their tokens, [R].
        nll: -log p of these tokens in nats, under the model itself, [R].
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    nll: NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A generated sequence.

    Attributes:
        number: number of the sample, from 0.
        ids: its tokens, [N].
        nll: -log p of its tokens in nats, [N]. It belongs to the model itself: temperature 1,
            all tokens.
    """

    number: int
    ids: list[int] = field(default_factory=list)
    nll: list[float] = field(default_factory=list)


def in_float64(model: LanguageModel) -> LanguageModel:
    """Returns a copy of a model in float64, or the model itself if it cannot compute in float64."""
    if next(model.parameters()).device.type == "mps":
        return model
    wide = copy.deepcopy(model).double()
    try:
        token = torch.zeros(1, dtype=torch.long, device=next(wide.parameters()).device)
        next_log_probs(wide, token, wide.initial_state(1))
    except RuntimeError:  # a custom cell can mix float64 with fp32
        logger.info("the cell does not support float64; the text may depend on the batch size")
        return model
    return wide


def read_prompt(model: LanguageModel, prompt: Ids, context: int) -> Start:
    """Returns where samples that continue a prompt start.

    Args:
        model: the model, in evaluation mode.
        prompt: the tokens of the prompt, [N]; it can be empty.
        context: id of the token before the first one: the token that ends a line.
    """
    targets = prompt.astype(np.int64)
    inputs = np.insert(targets, 0, context)
    hidden_state = model.initial_state(1)
    nll, steps = 0.0, default_chunk_steps(model)
    for start in range(0, len(targets), steps):
        piece = slice(start, min(start + steps, len(targets)))
        lengths = np.array([piece.stop - start])
        (scores,), hidden_state = score_piece(
            model, inputs[None, piece], targets[None, piece], lengths, hidden_state, Measures()
        )
        nll += float(scores.nll.sum())
    return Start(int(inputs[-1]), hidden_state, nll)


def generate(
    model: LanguageModel,
    start: Start,
    numbers: Iterable[int],
    *,
    seed: int,
    length: Length,
    line_end: int,
    sampling: Sampling | None = None,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Sample]:
    """Yields samples in order, generated in batches.

    Args:
        model: the model, in evaluation mode; see `in_float64`.
        start: where the samples start.
        numbers: the numbers of the samples.
        seed: seed of the random numbers, up to `MAX_SEED`.
        length: when a sample ends.
        line_end: id of the token that ends a line.
        sampling: how tokens are drawn.
        batch_size: B, the number of samples that are generated at once. For a large vocabulary it
            is reduced.

    Raises:
        FloatingPointError: if the probabilities are not finite.
    """
    rest = iter(numbers)
    batch_size = max(1, min(batch_size, _ELEMENTS // model.vocab_size))
    while batch := [Sample(number) for number in islice(rest, batch_size)]:
        for step in draw_tokens(
            model,
            start,
            [sample.number for sample in batch],
            seed=seed,
            length=length,
            line_end=line_end,
            sampling=sampling,
        ):
            for row, token, nll in zip(
                step.rows.tolist(), step.ids.tolist(), step.nll.tolist(), strict=True
            ):
                batch[row].ids.append(token)
                batch[row].nll.append(nll)
        yield from batch


def draw_tokens(
    model: LanguageModel,
    start: Start,
    numbers: list[int],
    *,
    seed: int,
    length: Length,
    line_end: int,
    sampling: Sampling | None = None,
) -> Iterator[Step]:
    """Yields the tokens of a batch of samples step by step, until all samples have ended.

    See `generate` for the arguments and errors.
    """
    sampling = sampling or Sampling()
    device = next(model.parameters()).device
    # Philox is counter-based: each key selects an independent sequence (Salmon et al. 2011).
    keys = [np.array([seed, number], dtype=np.uint64) for number in numbers]
    randoms = [np.random.Generator(np.random.Philox(key=key)) for key in keys]
    rows = np.arange(len(numbers))
    line_ends = np.zeros(len(numbers), dtype=np.int64)
    tokens = torch.full((len(numbers),), start.token, device=device)
    hidden_state: HiddenState = tuple(
        tuple(part.expand(len(numbers), -1).contiguous() for part in layer)
        for layer in start.hidden_state
    )
    for _ in range(length.tokens):
        uniform = np.array([randoms[row].random() for row in rows])
        with torch.inference_mode():
            log_probs, hidden_state = next_log_probs(model, tokens, hidden_state)
            log_probs = (log_probs.cpu() if device.type == "mps" else log_probs).double()
            chosen = draw(log_probs, torch.from_numpy(uniform).to(log_probs.device), sampling)
            nll = -log_probs.gather(1, chosen[:, None])[:, 0].cpu().numpy()  # [R]
            tokens = chosen.to(device)
        if not np.isfinite(nll).all():
            raise FloatingPointError("the probabilities of the model are not finite")
        ids = chosen.cpu().numpy()
        yield Step(rows, ids, nll)
        line_ends += ids == line_end
        if length.line_ends is None or not (line_ends >= length.line_ends).any():
            continue
        kept = np.flatnonzero(line_ends < length.line_ends)
        if not len(kept):
            return
        rows, line_ends = rows[kept], line_ends[kept]
        index = torch.from_numpy(kept).to(device)
        tokens = tokens[index]
        hidden_state = tuple(tuple(part[index] for part in layer) for layer in hidden_state)
