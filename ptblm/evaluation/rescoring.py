"""Scores the hypotheses of n-best lists with a language model.

Each hypothesis is scored as a line of text, with `<eos>` before its first word and after its last
one. A hypothesis without words has the score of `<eos>` alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.corpus.lines import Line, make_line
from ptblm.corpus.nbest.hypothesis import Hypothesis, Utterance
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.unknown_words import DEFAULT
from ptblm.evaluation.sequence_scores import score_sequences
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState

# Tokens of the hypotheses that are sorted by length and scored in batches.
_WINDOW = 2**15

Nll = NDArray[np.float64]
# Changes -log p of the tokens of a line; is_unknown tells which are `<unk>`.
UnknownRule = Callable[[Line, NDArray[np.bool_], Nll], Nll]


@dataclass(frozen=True)
class Scored:
    """A hypothesis with the scores of its tokens.

    Attributes:
        hypothesis: the hypothesis.
        line: its tokens.
        nll: -log p of each token and of `<eos>` in nats, [len(line.ids)].
    """

    hypothesis: Hypothesis
    line: Line
    nll: Nll


def constant_score(nll: float) -> UnknownRule:
    """Returns the rule that gives each unknown token this -log p, in nats; 0 leaves it out."""
    return lambda _, is_unknown, scores: np.where(is_unknown, nll, scores)


def word_probabilities(table: dict[str, float]) -> UnknownRule:
    """Returns the rule that multiplies p(`<unk>`) by the probability of the unknown word.

    Args:
        table: natural logarithm of the probability of each word; see `corpus/unknown_words.py`.
    """

    def change(line: Line, is_unknown: NDArray[np.bool_], nll: Nll) -> Nll:
        log_probs = [table.get(token, math.log(DEFAULT)) for token in line.tokens]
        return nll - np.where(is_unknown, [*log_probs, 0.0], 0.0)

    return change


def score_utterances(
    model: LanguageModel,
    tokenizer: Tokenizer,
    utterances: Iterable[Utterance],
    *,
    carry: bool = False,
    rule: UnknownRule | None = None,
) -> Iterator[list[Scored]]:
    """Yields the scored hypotheses of each utterance, in order and in bounded memory.

    Args:
        model: the model, in evaluation mode.
        tokenizer: the tokenizer with its vocabulary.
        utterances: the hypotheses of each utterance.
        carry: whether the hypotheses of an utterance start from the hidden state after the words of
            the first hypothesis of the previous utterance, which is the recognizer's best one. This
            is what Kaldi's recipes for PyTorch do. They also run the model over the padding of a
            hypothesis that is shorter than others of its utterance; ptblm does not.
        rule: how unknown tokens are scored; None for the model's probability of `<unk>`.

    Raises:
        DataError: if a token is unknown and the vocabulary does not contain `<unk>`.
    """
    scored = (
        _carried(model, tokenizer, utterances) if carry else _windowed(model, tokenizer, utterances)
    )
    unk_id = tokenizer.vocabulary.unk_id
    for utterance in scored:
        if rule is None or unk_id is None:
            yield utterance
        else:
            yield [
                replace(each, nll=rule(each.line, each.line.ids == unk_id, each.nll))
                for each in utterance
            ]


def _windowed(
    model: LanguageModel, tokenizer: Tokenizer, utterances: Iterable[Utterance]
) -> Iterator[list[Scored]]:
    """Scores several utterances at once."""
    window: list[list[tuple[Hypothesis, Line]]] = []
    size = 0
    for utterance in utterances:
        window.append(_lines(tokenizer, utterance))
        size += sum(len(line.ids) for _, line in window[-1])
        if size >= _WINDOW:
            yield from _scores(model, tokenizer, window)
            window, size = [], 0
    yield from _scores(model, tokenizer, window)


def _carried(
    model: LanguageModel, tokenizer: Tokenizer, utterances: Iterable[Utterance]
) -> Iterator[list[Scored]]:
    """Scores one utterance after another."""
    hidden_state = model.initial_state(1)
    for utterance in utterances:
        lines = _lines(tokenizer, utterance)
        yield from _scores(model, tokenizer, [lines], hidden_state)
        hidden_state = _state_after(model, tokenizer, lines[0][1], hidden_state)


def _lines(tokenizer: Tokenizer, utterance: Utterance) -> list[tuple[Hypothesis, Line]]:
    pairs = []
    for each in utterance:
        name, _, number = each.where.rpartition(":")
        tokens = tokenizer.tokens_of(each.text)
        pairs.append((each, make_line(int(number), tokens, tokenizer, each.text, name)))
    return pairs


def _scores(
    model: LanguageModel,
    tokenizer: Tokenizer,
    utterances: list[list[tuple[Hypothesis, Line]]],
    hidden_state: HiddenState | None = None,
) -> Iterator[list[Scored]]:
    ids = [line.ids for utterance in utterances for _, line in utterance]
    scores = iter(score_sequences(model, ids, tokenizer.line_end_id, hidden_state=hidden_state))
    for utterance in utterances:
        yield [Scored(hypothesis, line, next(scores).nll) for hypothesis, line in utterance]


def _state_after(
    model: LanguageModel, tokenizer: Tokenizer, line: Line, hidden_state: HiddenState
) -> HiddenState:
    """Returns the hidden state after the words of a line, without the end of the line."""
    inputs = torch.tensor([[tokenizer.line_end_id, *line.ids[:-1].tolist()]], dtype=torch.int32)
    with torch.inference_mode():
        return model.features(inputs.to(next(model.parameters()).device), hidden_state)[1]
