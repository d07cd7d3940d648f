"""The start of a text with the scores of its tokens: passages, hard tokens, and groups of tokens.

Shapes: N tokens of the text, L lines, K predictions, V vocabulary.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.corpus.lines import Line
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.analysis import Candidate, Group, HardToken, ScoredToken
from ptblm.evaluation.calibration import Calibration
from ptblm.evaluation.score import perplexity
from ptblm.evaluation.scorer import default_chunk_steps, on_device
from ptblm.evaluation.token_scores import (
    Measures,
    TokenScores,
    concatenate,
    distribution_scores,
    without_context,
)
from ptblm.model.language_model import LanguageModel

_FREQUENCIES = (0, 1, 10, 100, 1000, 10_000)
_POSITIONS = (1, 2, 3, 4, 5, 6, 11, 21, 41)
_MEASURES = Measures(rank=True, top=5)


@dataclass(frozen=True)
class EncodedLines:
    """Lines as one sequence of tokens.

    Attributes:
        lines: the lines, L of them.
        ids: their ids, with the tokens that end lines, [N].
        unknown: whether each token is not in the vocabulary, [N].
        starts: index of the first token of each line, and N, [L + 1].
        is_whole: whether these are all tokens of the text.
    """

    lines: list[Line]
    ids: Ids
    unknown: NDArray[np.bool_]
    starts: NDArray[np.int64]
    is_whole: bool


@dataclass(frozen=True)
class ScoredText:
    """Lines with the scores of their tokens.

    Attributes:
        text: the lines.
        scores: the scores of all tokens, [N]. The first token has no context and no score.
        tokenizer: the tokenizer of the model.
    """

    text: EncodedLines
    scores: TokenScores
    tokenizer: Tokenizer

    @property
    def nll(self) -> float:
        """Sum of -log p of all tokens but the first, in nats."""
        return float(self.scores.nll[1:].sum())

    def token(self, line: int, index: int) -> ScoredToken:
        """Returns a token, given the indices of its line and of the token in the line."""
        place = int(self.text.starts[line]) + index
        nll, _, rank, top_ids, top_nll, _ = self.scores[place : place + 1].arrays
        tokens, known = self.text.lines[line].tokens, self.tokenizer.vocabulary.tokens
        spelled = self.tokenizer.spelled
        top = zip(top_ids[0].tolist(), top_nll[0].tolist(), strict=True)
        return ScoredToken(
            spelled(tokens[index] if index < len(tokens) else self.tokenizer.line_end),
            float(nll[0]) / math.log(2),
            int(rank[0]),
            bool(self.text.unknown[place]),
            [Candidate(spelled(known[each]), math.exp(-nats)) for each, nats in top],
        )


def first_tokens(lines: Iterable[Line], limit: int) -> EncodedLines:
    """Returns the first tokens of a text.

    Args:
        lines: the lines of the text.
        limit: the largest number of tokens. A line that exceeds it is cut.
    """
    kept: list[Line] = []
    size, is_whole = 0, True
    for line in lines:
        if size == limit:
            is_whole = False
            break
        room = limit - size
        if _size(line) > room:
            end = line.ids[-1:]
            line = replace(
                line,
                tokens=line.tokens[:room],
                ids=np.concatenate([line.ids[:room], end]),
                unknown=np.append(line.unknown[:room], False),
                has_end=False,
            )
            is_whole = False
        kept.append(line)
        size += _size(line)
        if not is_whole:
            break
    sizes = [_size(line) for line in kept]
    pairs = list(zip(kept, sizes, strict=True))
    return EncodedLines(
        kept,
        np.concatenate([np.zeros(0, np.int64), *(line.ids[:n] for line, n in pairs)]),
        np.concatenate([np.zeros(0, np.bool_), *(line.unknown[:n] for line, n in pairs)]),
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
        is_whole,
    )


def _size(line: Line) -> int:
    """Returns the number of tokens of a line that the text contains."""
    return len(line.ids) if line.has_end else len(line.ids) - 1


def score_stream(
    model: LanguageModel, ids: Ids, calibration: Calibration, done: Callable[[int], None]
) -> TokenScores:
    """Scores a text as one stream, in the chunks of `eval`, so that rounding is the same.

    Args:
        model: the model, in evaluation mode.
        ids: the text, [N], at least two tokens.
        calibration: receives all predictions.
        done: called with the number of scored tokens after each chunk.

    Returns:
        The scores of all tokens, [N]: -log p, rank and the five most probable tokens; NaN and 0 for
        the first token, which has no context.
    """
    text = on_device(ids, next(model.parameters()).device)
    hidden_state, steps, parts = model.initial_state(1), default_chunk_steps(model), []
    for start in range(0, len(ids) - 1, steps):
        chunk = text[start : start + steps + 1]
        targets = chunk[1:].long()  # [T]
        with torch.inference_mode():
            features, hidden_state = model.features(chunk[None, :-1].int(), hidden_state)
            log_probs = model.head.log_probs(features[:, 0])  # [T, V]
            calibration.add(log_probs, targets)
            parts.append(distribution_scores(log_probs, targets, _MEASURES))
        done(start + len(targets))
    scores = concatenate(parts)
    return concatenate([without_context(scores[:1]), scores])


def passage(scored: ScoredText, max_lines: int, max_tokens: int) -> list[list[ScoredToken]]:
    """Returns the first lines of a text, without its first token, which has no score.

    Args:
        scored: the text.
        max_lines: the largest number of lines.
        max_tokens: the largest number of tokens. Only the first line is cut to fit.
    """
    found, starts = [], scored.text.starts
    for line in range(min(max_lines, len(scored.text.lines))):
        if line > 0 and starts[line + 1] > max_tokens:
            break
        size = min(int(starts[line + 1] - starts[line]), max_tokens)
        found.append([scored.token(line, index) for index in range(int(line == 0), size)])
    return found


def hardest_tokens(scored: ScoredText, number: int, context: int) -> list[HardToken]:
    """Returns the tokens with the highest surprisal, the highest first.

    Args:
        scored: the text.
        number: how many tokens to return.
        context: the largest number of tokens before each.
    """
    places = np.argsort(-scored.scores.nll[1:], kind="stable")[:number] + 1
    return [_hard_token(scored, int(place), context) for place in places]


def _hard_token(scored: ScoredText, place: int, context: int) -> HardToken:
    line = int(np.searchsorted(scored.text.starts, place, side="right")) - 1
    index = place - int(scored.text.starts[line])
    before = scored.text.lines[line].tokens[max(0, index - context) : index]
    before = list(map(scored.tokenizer.spelled, before))
    separator = " " if scored.tokenizer.unit == "word" else ""
    number = scored.text.lines[line].number
    return HardToken(separator.join(before), scored.token(line, index), number)


def groups_by_frequency(scored: ScoredText) -> list[Group]:
    """Groups tokens by their occurrences in training; an unknown token has none.

    Returns:
        Groups with at least one token, rarest first; none if the training counts are not known.
    """
    counts = np.array(scored.tokenizer.vocabulary.counts, dtype=np.int64)  # [V]
    if not counts.any():
        return []
    occurrences = np.where(scored.text.unknown, 0, counts[scored.text.ids])  # [N]
    return list(_groups(scored, occurrences, _FREQUENCIES))


def groups_by_position(scored: ScoredText) -> list[Group]:
    """Groups tokens by their position in the line, from 1, and returns groups with tokens."""
    starts = scored.text.starts
    first = np.repeat(starts[:-1], np.diff(starts))  # [N]
    return list(_groups(scored, np.arange(len(first)) - first + 1, _POSITIONS))


def _groups(
    scored: ScoredText, values: NDArray[np.int64], bounds: Sequence[int]
) -> Iterator[Group]:
    """Yields the groups of all tokens but the first, given the lowest value of each group."""
    nll = scored.scores.nll[1:]
    groups = np.searchsorted(bounds, values[1:], side="right") - 1
    for index, low in enumerate(bounds):
        part = nll[groups == index]
        if len(part):
            label = _label(low, bounds[index + 1] - 1 if index + 1 < len(bounds) else None)
            yield Group(label, len(part), perplexity(float(part.sum()), len(part)))


def _label(low: int, high: int | None) -> str:
    if high is None:
        return f"{low:,} or more"
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
