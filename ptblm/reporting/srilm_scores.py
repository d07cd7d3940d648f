r"""Word scores as SRILM's `ngram -ppl -debug 2` prints them, which `compute-best-mix` reads.

A sentence is its words, a line `\tp( word | context ...) \t= [Ngram] p [ log p ]` for each word and
for `</s>`, and two lines of totals. N is the length of the context with the word: all words of the
sentence so far, and `<s>`. An unknown word is `<unk>` and has a probability, as with SRILM's option
`-unk`, so no word is out of vocabulary.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import UNK


class SrilmScores:
    """Formats sentences, and sums up their scores.

    Args:
        base: base of the logarithms, which is 10 in SRILM.
    """

    def __init__(self, base: float = 10) -> None:
        self._base = base
        self._sentences = self._words = self._impossible = 0
        self._log_prob = 0.0

    def sentence(
        self, words: Sequence[str], nll: NDArray[np.float64], is_unknown: NDArray[np.bool_]
    ) -> list[str]:
        """Returns the lines of a sentence.

        Args:
            words: the words without the end of the sentence.
            nll: -log p in nats of each word and of the end, [len(words) + 1].
            is_unknown: whether each word is scored as `<unk>`, [len(words) + 1].
        """
        pairs = zip(words, is_unknown.tolist(), strict=False)  # not for the end
        shown = ["<s>", *(UNK if unknown else word for word, unknown in pairs), "</s>"]
        log_probs = -nll / math.log(self._base)
        costs = zip(shown[1:], shown, nll.tolist(), log_probs.tolist(), strict=False)
        lines = [
            f"\tp( {word} | {previous} {'...' if index else ''}) \t= [{index + 2}gram] "
            f"{math.exp(-cost):.7g} [ {log_prob:.7g} ]"
            for index, (word, previous, cost, log_prob) in enumerate(costs)
        ]
        possible = log_probs[np.isfinite(log_probs)]
        impossible, log_prob = len(nll) - len(possible), float(possible.sum())
        self._sentences += 1
        self._words += len(words)
        self._impossible += impossible
        self._log_prob += log_prob
        return [" ".join(words), *lines, *self._totals(1, len(words), impossible, log_prob), ""]

    def summary(self, name: str) -> list[str]:
        """Returns the totals of all sentences of a text of this name."""
        first, *others = self._totals(
            self._sentences, self._words, self._impossible, self._log_prob
        )
        return [f"file {name}: {first}", *others]

    def _totals(self, sentences: int, words: int, impossible: int, log_prob: float) -> list[str]:
        first = f"{sentences} sentences, {words} words, 0 OOVs"
        if not sentences:
            return [first]
        possible = words - impossible
        with_ends = perplexity_text(self._base, log_prob, possible + sentences, "undefined")
        without = perplexity_text(self._base, log_prob, possible, "undefined")
        return [
            first,
            f"{impossible} zeroprobs, logprob= {log_prob:.7g} ppl= {with_ends} ppl1= {without}",
        ]


def perplexity_text(base: float, log_prob: float, count: int, undefined: str) -> str:
    """Returns base^(-log_prob / count) as text; `undefined` if the count is 0."""
    try:
        return f"{base ** (-log_prob / count):.7g}" if count > 0 else undefined
    except OverflowError:
        return "inf"
