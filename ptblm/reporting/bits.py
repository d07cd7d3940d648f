"""Bits per character, or per byte: what such models are compared by, beside their perplexity.

Once over all tokens, line ends included, and once leaving out the targets that are `<eos>`,
which bytes have not.
"""

import math

from ptblm.corpus.vocabulary import EOS
from ptblm.evaluation.score import Score
from ptblm.training.records import EpochDone

Bits = dict[str, float | None]


def epoch_bits(done: EpochDone, unit: str) -> Bits:
    """An epoch's, by name; none at word level, whose figure is the perplexity."""
    if unit == "word":
        return {}
    name = f"bits_per_{unit}"
    return {
        f"train_{name}": math.log2(done.train_perplexity),
        f"valid_{name}": math.log2(done.valid_perplexity),
    }


def score_bits(score: Score, unit: str, prefix: str = "") -> Bits:
    """A text's, by name, with `prefix` before it; none at word level."""
    if unit == "word":
        return {}
    name = f"{prefix}bits_per_{unit}"
    if EOS not in score.shares:
        return {name: score.bits}
    without = score.without(EOS)
    return {name: score.bits, f"{name}_without_eos": None if without is None else without.bits}
