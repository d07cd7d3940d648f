"""Bits per token, with and without `<eos>`."""

import math

import pytest

from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.evaluation.score import Score
from ptblm.reporting.bits import epoch_bits, score_bits
from tests.corpus.helpers import data_config
from tests.reporting.records import EPOCH, TEST


@pytest.mark.parametrize("unit", ["word", "character"])
def test_bits_are_named_after_the_unit(unit: str) -> None:
    assert epoch_bits(EPOCH, unit) == {
        f"train_bits_per_{unit}": 3.0,
        f"valid_bits_per_{unit}": 2.0,
    }
    bits = score_bits(TEST.score, unit)
    assert list(bits) == [f"bits_per_{unit}", f"bits_per_{unit}_without_eos"]
    assert bits[f"bits_per_{unit}"] == pytest.approx(2)
    assert bits[f"bits_per_{unit}_without_eos"] == pytest.approx((32 - 4) / 12)


def test_bits_without_eos_are_none_if_every_target_is_eos() -> None:
    only_eos = Score(4 * math.log(2), 4, {"<eos>": Score(4 * math.log(2), 4)})
    assert score_bits(only_eos, "character")["bits_per_character_without_eos"] is None


@pytest.mark.parametrize("name", TOKENIZERS)
def test_bits_exclude_eos_if_it_is_a_special_token(name: str) -> None:
    tokenizer = load_corpus(data_config("sample", name)).tokenizer
    breakdown = {token: Score(4 * math.log(2), 4) for token in tokenizer.special_ids}
    bits = score_bits(Score(16 * math.log(4), 16, breakdown), tokenizer.unit, "test_")
    total = f"test_bits_per_{tokenizer.unit}"
    names = [total] if name == "byte" else [total, f"{total}_without_eos"]
    assert list(bits) == names
