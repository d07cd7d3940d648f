"""On the real Penn Treebank: the shipped configs learn, and evaluation keeps its protocol."""

import math
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.run.setup import setup_run
from ptblm.training.records import Evaluating, StepDone


@pytest.mark.slow
@pytest.mark.parametrize(("name", "perplexity"), [("medium", 800), ("large", 1000)])
def test_two_hundred_steps_of_the_large_models_learn(
    name: str, perplexity: float, ptb_directory: Path
) -> None:
    """Both begin at 10,000, the vocabulary's size; the words' own frequencies give about 700."""
    trainer = setup_run(load_config(name, [f"data.path={ptb_directory}"])).trainer
    records = trainer.records()
    losses = []
    for _ in range(200):
        record = next(records)
        assert isinstance(record, StepDone)
        losses.append(record.nll / record.tokens)
    first, last = math.exp(losses[0]), math.exp(sum(losses[-50:]) / 50)
    print(f"\n{name}: perplexity {first:,.0f} at the first step, {last:,.0f} over steps 151-200")
    assert first == pytest.approx(10_000, rel=0.05)
    assert last < perplexity


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_protocol_of_validation_and_test(name: str, ptb_directory: Path) -> None:
    """Validation has the training's batches; the test, one stream and all words but the first."""
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=2", "model.num_layers=1"]
    trainer = setup_run(load_config(name, overrides)).trainer
    steps = {"small": (2323, 184 * 20), "medium": (1327, 105 * 35), "large": (1327, 105 * 35)}
    assert len(trainer.batches) == steps[name][0]
    inputs, targets = trainer.evaluation_texts["valid"]
    assert inputs.shape == targets.shape == (20, steps[name][1])
    inputs, targets = trainer.evaluation_texts["test"]
    assert inputs.shape == targets.shape == (1, 82_429)


def test_an_untrained_model_is_as_perplexed_as_the_vocabulary_is_large(
    ptb_directory: Path,
) -> None:
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=4", "model.init_scale=0.0"]
    trainer = setup_run(load_config("small", overrides)).trainer
    *_, last = trainer._evaluate("test")
    assert isinstance(last, Evaluating)
    assert last.score.perplexity == pytest.approx(10_000, rel=1e-5)
