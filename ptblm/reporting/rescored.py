"""Rows of rescored n-best lists: scores, word scores, best hypotheses, and the lists themselves."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ptblm.corpus.nbest.hypothesis import Format, Hypothesis
from ptblm.evaluation.combination import (
    Candidates,
    Scores,
    Weights,
    language_scores,
    totals,
)
from ptblm.evaluation.rescoring import Scored
from ptblm.reporting.srilm_scores import SrilmScores


@dataclass(frozen=True)
class Rescored:
    """An utterance with its scores; shapes: N hypotheses.

    Attributes:
        scored: the hypotheses in the order of the list.
        candidates: their separate scores, in the base of the output.
        weights: how the scores are combined.
    """

    scored: list[Scored]
    candidates: Candidates
    weights: Weights

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """The hypotheses in the order of the list."""
        return [each.hypothesis for each in self.scored]

    @property
    def totals(self) -> Scores:
        """The total scores, [N]."""
        return totals(self.candidates, self.weights)

    @property
    def language(self) -> Scores:
        """The interpolated language model scores, [N]."""
        candidates = self.candidates
        return language_scores(candidates.old, candidates.new, self.weights.weight)


def rescored(scored: list[Scored], weights: Weights, log_base: float) -> Rescored:
    """Returns an utterance with its scores.

    Args:
        scored: its hypotheses.
        weights: how the scores are combined.
        log_base: natural logarithm of the base of the list.
    """
    hypotheses = [each.hypothesis for each in scored]
    candidates = Candidates(
        np.array([each.acoustic for each in hypotheses]),
        np.array([each.language for each in hypotheses]),
        np.array([-each.nll.sum() for each in scored]) / log_base,
        np.array([float(each.length) for each in hypotheses]),
        np.array([each.graph for each in hypotheses]),
    )
    return Rescored(scored, candidates, weights)


def score_rows(utterances: Iterable[Rescored], *, negate: bool) -> Iterator[str]:
    """Yields `utt-K score` for each hypothesis, with the score of the language model.

    Args:
        utterances: the utterances.
        negate: whether to print -log p, as Kaldi does, and not log p.
    """
    for utterance in utterances:
        for hypothesis, score in zip(utterance.hypotheses, utterance.candidates.new, strict=True):
            yield f"{hypothesis.id} {_cost(score) if negate else _number(score)}"


def word_score_rows(
    utterances: Iterable[Rescored], log_base: float, *, negate: bool
) -> Iterator[str]:
    """Yields `utt-K score score ...` with a score for each word and for the end.

    Args:
        utterances: the utterances.
        log_base: natural logarithm of the base.
        negate: whether to print -log p, as Kaldi does, and not log p.
    """
    for utterance in utterances:
        for each in utterance.scored:
            scores = -each.nll / log_base
            texts = map(_cost if negate else _number, scores.tolist())
            yield " ".join([each.hypothesis.id, *texts])


def srilm_word_score_rows(
    utterances: Iterable[Rescored], name: str, unk_id: int | None
) -> Iterator[str]:
    """Yields the scores of all words as SRILM's `ngram -ppl -debug 2` prints them.

    Args:
        utterances: the utterances.
        name: name of the list in the summary.
        unk_id: id of `<unk>`.
    """
    output = SrilmScores()
    for utterance in utterances:
        for each in utterance.scored:
            is_unknown = each.line.ids == unk_id
            yield from output.sentence(each.line.tokens, each.nll, is_unknown)
    yield from output.summary(name)


def best_rows(utterances: Iterable[Rescored], *, form: str) -> Iterator[str]:
    """Yields the best hypothesis of each utterance.

    Args:
        utterances: the utterances.
        form: "text" (`utt words`, as Kaldi and ESPnet), "trn" (`words (utt)`, for sclite), or
            "words".
    """
    for utterance in utterances:
        best = utterance.hypotheses[int(utterance.totals.argmax())]
        text = best.text.strip()
        if form == "text":
            yield f"{best.utterance} {text}".rstrip(" ")
        elif form == "trn":
            yield f"{text} ({best.utterance})".lstrip(" ")
        else:
            yield text


def list_rows(utterances: Iterable[Rescored], format_: Format) -> Iterator[str]:
    """Yields the rows of rescored n-best lists, the best hypothesis of each utterance first."""
    for hypotheses in ranked(utterances, format_):
        for hypothesis, score in hypotheses:
            yield hypothesis.before + score + hypothesis.after


def ranked(
    utterances: Iterable[Rescored], format_: Format
) -> Iterator[list[tuple[Hypothesis, str]]]:
    """Yields the hypotheses of each utterance with the text of their score, from the best.

    If the weights change nothing, the order and all scores are those of the list.
    """
    make_score = _SCORES[format_.score]
    for utterance in utterances:
        hypotheses = utterance.hypotheses
        if utterance.weights.changes_nothing:
            yield [(hypothesis, hypothesis.score) for hypothesis in hypotheses]
            continue
        scores = make_score(utterance)
        if format_.score == "language" and utterance.weights.weight == 0:
            scores = [hypothesis.score for hypothesis in hypotheses]
        order = np.argsort(-utterance.totals, kind="stable")
        yield [(hypotheses[index], scores[index]) for index in order]


def _both(utterance: Rescored) -> list[str]:
    pairs = zip(utterance.candidates.new, utterance.totals, strict=True)
    return [f', "lm_score": {_json(new)}, "total": {_json(total)}' for new, total in pairs]


_SCORES: dict[str, Callable[[Rescored], list[str]]] = {
    "none": lambda utterance: [""] * len(utterance.scored),
    "language": lambda utterance: [_number(score) for score in utterance.language],
    "total": lambda utterance: [_number(score) for score in utterance.totals],
    "both": _both,
}


def _cost(score: float) -> str:
    return f"{-score + 0.0:.4f}"  # 0.0 and not -0.0


def _number(score: float) -> str:
    return f"{score:.7g}"


def _json(score: float) -> str:
    return _number(score) if math.isfinite(score) else "null"
