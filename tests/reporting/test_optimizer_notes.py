"""Notes on learning rates and weight decay that an optimizer rarely needs."""

import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.reporting.console import optimizer_notes


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(load_config("small", ["data.path=sample"]).data)


def notes(corpus: Corpus, **changes: object) -> list[str]:
    overrides = [f"training.{key}={value}" for key, value in changes.items()]
    return optimizer_notes(corpus, load_config("small", overrides).training)


@pytest.mark.parametrize(
    ("optimizer", "rate", "noted"),
    [
        ("sgd", 1.0, False),
        ("momentum", 1.0, False),
        ("adam", 0.1, False),
        ("adam", 1.0, True),
        ("adamw", 1.0, True),
        ("nadam", 0.2, True),
        ("muon", 0.02, False),
        ("muon", 1.0, True),
        ("rmsprop", 1.0, True),
    ],
)
def test_rates_of_sgd_are_noted_for_other_optimizers(
    optimizer: str, rate: float, noted: bool, corpus: Corpus
) -> None:
    found = notes(corpus, optimizer=optimizer, learning_rate=rate)
    assert len(found) == noted
    assert all(f"{optimizer} usually needs about 0.0" in note for note in found)


@pytest.mark.parametrize(
    ("optimizer", "decay", "noted"),
    [
        ("adam", 1.2e-6, False),  # part of the gradient: a strong decay
        ("adamw", 0.0, False),
        ("adamw", 1.2e-6, True),
        ("muon", 1e-4, True),
        ("adamw", 0.05, False),
        ("nadam", 1.2e-6, False),
        ("{type: nadam, decoupled_weight_decay: true}", 1.2e-6, True),
    ],
)
def test_decoupled_decay_without_effect_is_noted(
    optimizer: str, decay: float, noted: bool, corpus: Corpus
) -> None:
    """AdaBelief's comparison with AdamW used the decay of SGD, 1.2e-6, which did nothing."""
    found = notes(corpus, optimizer=optimizer, weight_decay=decay, learning_rate=0.001)
    assert len(found) == noted
    assert all("which has no effect" in note for note in found)
