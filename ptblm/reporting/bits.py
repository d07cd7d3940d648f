"""Bits per token, named after the unit: bits_per_word, bits_per_character, bits_per_byte.

Published results for characters either include or exclude `<eos>`. Both values are reported if
`<eos>` is a special token of the tokenizer.
"""

import math

from ptblm.corpus.vocabulary import EOS
from ptblm.evaluation.score import Score
from ptblm.training.records import EpochDone

Bits = dict[str, float | None]


def epoch_bits(done: EpochDone, unit: str) -> Bits:
    """Returns the training and validation bits per token of an epoch, by name.

    Args:
        done: the epoch.
        unit: name of a token: "word", "character" or "byte".
    """
    name = f"bits_per_{unit}"
    return {
        f"train_{name}": math.log2(done.train_perplexity),
        f"valid_{name}": math.log2(done.valid_perplexity),
    }


def score_bits(score: Score | None, unit: str, prefix: str = "") -> Bits:
    """Returns the bits per token of a score, by name, with and without `<eos>`.

    Args:
        score: the score; None gives a value of None.
        unit: name of a token: "word", "character" or "byte".
        prefix: prefix of the names, such as "test_".

    Returns:
        The values by name. The value without `<eos>` is None if every target is `<eos>`, and
        omitted if the tokenizer has no `<eos>`.
    """
    name = f"{prefix}bits_per_{unit}"
    if score is None:
        return {name: None}
    if EOS not in score.breakdown:
        return {name: score.bits}
    without = score.without(EOS)
    return {name: score.bits, f"{name}_without_eos": None if without is None else without.bits}
