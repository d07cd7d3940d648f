"""Evaluation: the value is the text's, whatever the chunks; counts are exact."""

import math
from itertools import pairwise

import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.evaluation.evaluate import running_scores
from ptblm.evaluation.score import Score, perplexity
from ptblm.model.build import build_model
from ptblm.model.initialisers import Initialiser
from ptblm.model.language_model import LanguageModel


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    made = build_model(ModelConfig(hidden_size=8, num_layers=2, dropout=0.5), vocab_size=17)
    made.initialise(Initialiser("uniform", 1.0), torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(17, (1, 1001), generator=torch.Generator().manual_seed(1))


def score(model: LanguageModel, ids: torch.Tensor, chunk_steps: int | None) -> Score:
    *_, last = running_scores(model, ids[:, :-1], ids[:, 1:], unk_id=3, chunk_steps=chunk_steps)
    return last


@pytest.mark.parametrize("chunk_steps", [1, 7, 35, 999, 1000, 5000])
def test_the_chunks_do_not_change_the_value(
    model: LanguageModel, ids: torch.Tensor, chunk_steps: int
) -> None:
    whole = score(model, ids, None)
    cut = score(model, ids, chunk_steps)
    assert cut.tokens == whole.tokens == 1000
    assert cut.perplexity == pytest.approx(whole.perplexity, rel=1e-6)
    assert cut.unk_nll == pytest.approx(whole.unk_nll, rel=1e-6)


def test_the_score_is_the_sum_over_single_words(model: LanguageModel, ids: torch.Tensor) -> None:
    state = model.initial_state(1)
    total, unk_total = 0.0, 0.0
    with torch.no_grad():
        for current, target in pairwise(ids[0].tolist()):
            nll, state = model.nll(torch.tensor([[current]]), torch.tensor([[target]]), state)
            total += nll.item()
            unk_total += nll.item() * (target == 3)
    whole = score(model, ids, None)
    assert whole.nll == pytest.approx(total, rel=1e-6)
    assert whole.unk_nll == pytest.approx(unk_total, rel=1e-6)
    assert whole.unk_tokens == (ids[0, 1:] == 3).sum().item()
    without = (total - unk_total) / (1000 - whole.unk_tokens)
    assert whole.perplexity_without_unk == pytest.approx(math.exp(without), rel=1e-6)


def test_nats_bits_and_perplexity_are_one_figure() -> None:
    figures = Score(nll=20 * math.log(8), tokens=20)
    assert figures.nats == pytest.approx(math.log(8))
    assert figures.bits == pytest.approx(3)
    assert figures.perplexity == pytest.approx(8)


def test_a_text_of_unk_alone_has_no_perplexity_without_them() -> None:
    assert Score(nll=3.0, tokens=2, unk_nll=3.0, unk_tokens=2).perplexity_without_unk is None


def test_a_perplexity_beyond_a_float_is_infinite() -> None:
    assert perplexity(1e6, 1) == math.inf
