"""Dropout: where it applies, and its expectation."""

import pytest
import torch
from torch import Tensor

from ptblm.config.model import ModelConfig
from ptblm.model import language_model as language_model_module
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.layers import recurrent as recurrent_module
from ptblm.model.layers.dropout import dropout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.65])
def test_expectation_is_preserved(rate: float) -> None:
    x = torch.ones(400, 500)
    dropped = dropout(x, rate, generator())
    # The rate is rounded to a multiple of 1/65536.
    values = sorted(set(dropped.flatten().tolist()))
    assert values == pytest.approx([0.0, 1 / (1 - rate)], rel=3e-5)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)


def test_every_time_step_has_its_own_mask() -> None:
    masks = dropout(torch.ones(20, 3, 50), 0.5, generator())
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 20


def test_no_generator_or_zero_rate_is_the_identity() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, generator()) is x


def test_generator_determines_the_mask() -> None:
    x = torch.ones(10, 10)
    assert torch.equal(dropout(x, 0.5, generator(1)), dropout(x, 0.5, generator(1)))
    assert not torch.equal(dropout(x, 0.5, generator(1)), dropout(x, 0.5, generator(2)))


def test_dropout_follows_the_embedding_and_every_layer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three places for two layers; without the last one, before the softmax, medium overfits."""
    seen: list[tuple[tuple[int, ...], float]] = []

    def spy(x: Tensor, rate: float, source: torch.Generator | None) -> Tensor:
        seen.append((tuple(x.shape), rate))
        return dropout(x, rate, source)

    monkeypatch.setattr(language_model_module, "dropout", spy)
    monkeypatch.setattr(recurrent_module, "dropout", spy)
    model = build_model(
        ModelConfig(hidden_size=4, num_layers=2, embedding_size=3, dropout=0.4), vocab_size=7
    )
    model.initialize(Initializer("uniform", 0.1), generator())
    ids = torch.zeros(2, 5, dtype=torch.long)
    model(ids, ids, model.initial_state(2), generator())
    assert seen == [((5, 2, 3), 0.4), ((5, 2, 4), 0.4), ((5, 2, 4), 0.4)]


def test_hidden_state_is_never_dropped() -> None:
    """The carried state contains no zeros."""
    model = build_model(ModelConfig(hidden_size=64, num_layers=1, dropout=0.9), vocab_size=7)
    model.initialize(Initializer("uniform", 0.5), generator())
    ids = torch.zeros(2, 5, dtype=torch.long)
    _, _, state = model(ids, ids, model.initial_state(2), generator())
    ((h, c),) = state
    assert (h != 0).all()
    assert (c != 0).all()
