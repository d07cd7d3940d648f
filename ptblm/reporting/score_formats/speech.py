"""The output of SRILM, KenLM and Kaldi, for their scripts and for interpolation with n-grams.

They print the probability of the end of a sentence as that of `</s>`. The length of the n-gram that
they print is that of the context, with the word: all words of the sentence so far, and `<s>`.
"""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from ptblm.errors import DataError
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.reporting.score_formats.columns import Request
from ptblm.reporting.srilm_scores import SrilmScores, perplexity_text

_END = "</s>"


def srilm(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of SRILM's `ngram -unk -ppl TEXT -debug 2`.

    `compute-best-mix` reads it, and finds the weights of an interpolation with n-gram models.
    Like SRILM, it leaves out blank lines.
    """
    output = SrilmScores(request.base)
    for scored in lines:
        if scored.line.tokens:
            yield output.sentence(scored.line.tokens, scored.scores.nll, scored.line.unknown)
    yield output.summary(request.text)


def kenlm(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of KenLM's `query`: words, sentences and the summary.

    The id of an unknown word is 0; that of another word is 1 more than in the vocabulary.
    """
    unk_id = request.tokenizer.vocabulary.unk_id
    tokens = unknown = 0
    log_prob = log_prob_unknown = 0.0
    for scored in lines:
        log_probs = -scored.scores.nll / math.log(request.base)
        is_finite, is_unknown = np.isfinite(log_probs), scored.line.unknown
        tokens += len(log_probs)
        unknown += int(is_unknown.sum())
        log_prob += float(log_probs[is_finite].sum())
        log_prob_unknown += float(log_probs[is_finite & is_unknown].sum())
        words = zip([*scored.line.tokens, _END], scored.line.ids.tolist(), log_probs, strict=True)
        texts = [
            f"{word}={0 if index == unk_id else index + 1} {length} {each:.7g}\t"
            for length, (word, index, each) in enumerate(words, start=2)
        ]
        yield [f"{''.join(texts)}Total: {log_probs.sum():.7g} OOV: {int(is_unknown.sum())}"]
    base, log_prob_known = request.base, log_prob - log_prob_unknown
    yield [
        f"Perplexity including OOVs:\t{perplexity_text(base, log_prob, tokens, 'nan')}",
        f"Perplexity excluding OOVs:\t"
        f"{perplexity_text(base, log_prob_known, tokens - unknown, 'nan')}",
        f"OOVs:\t{unknown}",
        f"Tokens:\t{tokens}",
    ]


def kaldi(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of Kaldi's `steps/pytorchnn/compute_sentence_scores.py`.

    Each line is an utterance id, then -log p of each word and of the end of the sentence.

    Raises:
        DataError: if a line does not start with an id.
    """
    for scored in lines:
        first = scored.line.text.split(maxsplit=1)[:1]
        if not first:
            raise DataError(
                "a line without an utterance id",
                where=f"{request.text}:{scored.line.number}",
                hint="each line is an utterance id, then the words of the utterance",
            )
        values = (scored.scores.nll / math.log(request.base)).tolist()
        yield [" ".join([*first, *(f"{value:.4f}" for value in values)])]
