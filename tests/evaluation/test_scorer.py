"""Evaluation: the value is the text's, whatever the chunks; counts are exact."""

import math
from itertools import pairwise

import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.evaluation.score import Score, perplexity
from ptblm.evaluation.scorer import running_scores
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    made = build_model(ModelConfig(hidden_size=8, num_layers=2, dropout=0.5), vocab_size=17)
    made.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(17, (1, 1001), generator=torch.Generator().manual_seed(1))


def make_model(vocabulary: int, hidden_size: int, scale: float) -> LanguageModel:
    made = build_model(ModelConfig(hidden_size=hidden_size, num_layers=1), vocabulary)
    made.initialize(Initializer("uniform", scale), torch.Generator().manual_seed(0))
    return made


MARKS = {"<unk>": 3, "<eos>": 5}


def score(model: LanguageModel, ids: torch.Tensor, chunk_steps: int | None) -> Score:
    *_, last = running_scores(model, ids[:, :-1], ids[:, 1:], marks=MARKS, chunk_steps=chunk_steps)
    return last


@pytest.mark.parametrize("chunk_steps", [1, 7, 35, 999, 1000, 5000])
def test_the_chunks_do_not_change_the_value(
    model: LanguageModel, ids: torch.Tensor, chunk_steps: int
) -> None:
    whole = score(model, ids, None)
    cut = score(model, ids, chunk_steps)
    assert cut.tokens == whole.tokens == 1000
    assert cut.perplexity == pytest.approx(whole.perplexity, rel=1e-6)
    for mark in MARKS:
        assert cut.share(mark).tokens == whole.share(mark).tokens > 0
        assert cut.share(mark).nll == pytest.approx(whole.share(mark).nll, rel=1e-6)


def test_the_score_is_the_sum_over_single_words(model: LanguageModel, ids: torch.Tensor) -> None:
    state = model.initial_state(1)
    total, shares = 0.0, dict.fromkeys(MARKS, 0.0)
    with torch.no_grad():
        for current, target in pairwise(ids[0].tolist()):
            nll, state = model.nll(torch.tensor([[current]]), torch.tensor([[target]]), state)
            total += nll.item()
            for mark, index in MARKS.items():
                shares[mark] += nll.item() * (target == index)
    whole = score(model, ids, None)
    assert whole.nll == pytest.approx(total, rel=1e-6)
    for mark, index in MARKS.items():
        count = (ids[0, 1:] == index).sum().item()
        assert whole.share(mark).tokens == count > 0
        assert whole.share(mark).nll == pytest.approx(shares[mark], rel=1e-6)
        without = whole.without(mark)
        assert without is not None
        mean = (total - shares[mark]) / (1000 - count)
        assert without.perplexity == pytest.approx(math.exp(mean), rel=1e-6)


@pytest.mark.parametrize(("vocabulary", "hidden"), [(2000, 4), (17, 500)])
def test_a_chunk_is_no_larger_for_a_small_vocabulary(vocabulary: int, hidden: int) -> None:
    model = make_model(vocabulary, hidden, scale=0.1)
    ids = torch.zeros(1, 5001, dtype=torch.int64)
    first = next(running_scores(model, ids[:, :-1], ids[:, 1:]))
    assert first.tokens == 2**22 // 2000


def test_nats_bits_and_perplexity_are_one_figure() -> None:
    figures = Score(nll=20 * math.log(8), tokens=20)
    assert figures.nats == pytest.approx(math.log(8))
    assert figures.bits == pytest.approx(3)
    assert figures.perplexity == pytest.approx(8)


def test_a_text_of_unk_alone_has_no_perplexity_without_them() -> None:
    assert Score(3.0, 2, {"<unk>": Score(3.0, 2)}).without("<unk>") is None


def test_what_was_not_kept_apart_is_not_left_out() -> None:
    assert Score(3.0, 2).without("<eos>") == Score(3.0, 2)


@pytest.mark.parametrize("size", [256, 51])
def test_a_uniform_model_needs_log2_v_bits(size: int) -> None:
    uniform = make_model(size, hidden_size=4, scale=0.0)
    ids = torch.arange(2 * size).remainder(size)[None]
    *_, last = running_scores(uniform, ids[:, :-1], ids[:, 1:], marks=MARKS)
    assert last.bits == pytest.approx(math.log2(size), rel=1e-6)
    without = last.without("<eos>")
    assert without is not None
    assert without.bits == pytest.approx(math.log2(size), rel=1e-6)


def test_a_perplexity_beyond_a_float_is_infinite() -> None:
    assert perplexity(1e6, 1) == math.inf
