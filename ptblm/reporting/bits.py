"""Bits per token, named after the unit, and measures that do not depend on the tokenizer.

The names of bits per token are bits_per_word, bits_per_character, bits_per_byte, bits_per_subword.
The perplexity per word and the bits per byte divide the same sum of -log p by the size of the text,
so models with different tokenizers can be compared.

Published results for characters either include or exclude `<eos>`. Both values are reported if
`<eos>` is a special token of the tokenizer.
"""

import math

from ptblm.corpus.corpus import Corpus
from ptblm.corpus.text_size import TextSize
from ptblm.corpus.vocabulary import EOS
from ptblm.evaluation.score import Score, perplexity
from ptblm.training.records import EpochDone

Bits = dict[str, float | None]


def epoch_bits(done: EpochDone, unit: str) -> Bits:
    """Returns the training and validation bits per token of an epoch, by name.

    Args:
        done: the epoch.
        unit: name of a token: "word", "character", "byte" or "subword".
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
        unit: name of a token: "word", "character", "byte" or "subword".
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


def text_measures(nll: float, size: TextSize, unit: str, prefix: str = "") -> Bits:
    """Returns the perplexity per word and the bits per byte of a text, by name.

    A measure whose unit is that of a token is omitted, because it is reported anyway. For a model
    of words, that is the perplexity per word, and bits per byte would not include the spelling of
    unknown words.

    Args:
        nll: sum of -log p of all tokens that were scored, in nats.
        size: the size of the whole text. Its line ends count as words.
        unit: name of a token: "word", "character", "byte" or "subword".
        prefix: prefix of the names, such as "test_".
    """
    if unit == "word":
        return {}
    measures: Bits = {f"{prefix}perplexity_per_word": perplexity(nll, size.words)}
    if unit != "byte":
        measures[f"{prefix}bits_per_byte"] = nll / math.log(2) / size.utf8_bytes
    return measures


def run_measures(valid_perplexity: float, test: Score | None, corpus: Corpus, unit: str) -> Bits:
    """Returns the measures of the valid and the test split at the end of a run; see above."""
    valid = corpus.splits["valid"]
    # Every token but the first is a target.
    nll = math.log(valid_perplexity) * (len(valid.ids) - 1)
    measures = text_measures(nll, valid.size, unit, "valid_")
    if test is not None and "test" in corpus.splits:
        measures |= text_measures(test.nll, corpus.splits["test"].size, unit, "test_")
    return measures
