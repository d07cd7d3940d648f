r"""Word scores as SRILM's `ngram -ppl -debug 2` prints them, which `compute-best-mix` reads.

A sentence is its words, a line `\tp( word | context ...) \t= [2gram] p [ log10 p ]` for each word
and for `</s>`, and two lines of totals. The length of the n-gram is that of the context with the
word: all words of the sentence so far, and `<s>`. An unknown word is `<unk>` and has a probability,
as with SRILM's option `-unk`, so no word is out of vocabulary.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import UNK


class SrilmScores:
    """Formats sentences, and sums up their scores.

    Args:
        base: base of the logarithms; SRILM's is 10.
    """

    def __init__(self, base: float = 10) -> None:
        self._base = base
        self._sentences = self._words = self._impossible = 0
        self._log_prob = 0.0

    def sentence(
        self, words: Sequence[str], nll: NDArray[np.float64], is_unknown: NDArray[np.bool_]
    ) -> Iterator[str]:
        """Yields the lines of a sentence.

        Args:
            words: the words without the end of the sentence.
            nll: -log p in nats of each word and of the end, [len(words) + 1].
            is_unknown: whether each word is scored as `<unk>`, [len(words) + 1].
        """
        yield " ".join(words)
        pairs = zip(words, is_unknown, strict=False)  # not for the end
        shown = [UNK if unknown else word for word, unknown in pairs]
        previous = "<s>"
        for index, (word, cost) in enumerate(zip([*shown, "</s>"], nll.tolist(), strict=True)):
            more = " ..." if index else " "
            yield (
                f"\tp( {word} | {previous}{more}) \t= [{index + 2}gram] {math.exp(-cost):.7g} "
                f"[ {-cost / math.log(self._base):.7g} ]"
            )
            previous = word
        possible = nll[np.isfinite(nll)]
        impossible = len(nll) - len(possible)
        log_prob = -float(possible.sum()) / math.log(self._base)
        yield from self._totals("", 1, len(words), impossible, log_prob)
        yield ""
        self._sentences += 1
        self._words += len(words)
        self._impossible += impossible
        self._log_prob += log_prob

    def summary(self, name: str) -> Iterator[str]:
        """Yields the totals of all sentences of a text of this name."""
        yield from self._totals(
            f"file {name}: ", self._sentences, self._words, self._impossible, self._log_prob
        )

    def _totals(
        self, title: str, sentences: int, words: int, impossible: int, log_prob: float
    ) -> Iterator[str]:
        yield f"{title}{sentences} sentences, {words} words, 0 OOVs"
        if not words + sentences:
            return
        yield (
            f"{impossible} zeroprobs, logprob= {log_prob:.7g} "
            f"ppl= {self._perplexity(log_prob, words + sentences - impossible)} "
            f"ppl1= {self._perplexity(log_prob, words - impossible)}"
        )

    def _perplexity(self, log_prob: float, count: int) -> str:
        if count <= 0:
            return "undefined"
        try:
            return f"{self._base ** (-log_prob / count):.7g}"
        except OverflowError:
            return "inf"
