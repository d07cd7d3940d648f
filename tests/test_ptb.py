"""The Penn Treebank: the shipped configs learn, and evaluation follows its protocol."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.config.evaluation import EvaluationSettings
from ptblm.config.loading import load_config
from ptblm.corpus.lines import lines_of
from ptblm.corpus.source import read_file
from ptblm.evaluation.line_scores import Mode, score_lines
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.evaluation.scorers.pipeline import Pipeline, pipeline_scores, text_chunks
from ptblm.run.setup import setup_run
from ptblm.training.records import Evaluating, StepDone


@pytest.mark.slow
@pytest.mark.parametrize(("name", "perplexity"), [("medium", 800), ("large", 1000)])
def test_large_models_learn_in_200_steps(name: str, perplexity: float, ptb_directory: Path) -> None:
    """Both start at 10,000, the vocabulary size. Word frequencies alone give about 700."""
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
def test_validation_has_20_streams_and_test_one(name: str, ptb_directory: Path) -> None:
    """In both, every token but the first is a target."""
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=2", "model.num_layers=1"]
    trainer = setup_run(load_config(name, overrides)).trainer
    assert len(trainer.epoch_text) == {"small": 2323, "medium": 1327, "large": 1327}[name]
    texts = trainer.evaluation_texts
    found = {split: (len(ids) - 1, streams) for split, (ids, streams) in texts.items()}
    assert found == {"valid": (73_759, 20), "test": (82_429, 1)}


def test_uniform_model_has_perplexity_of_vocabulary_size(ptb_directory: Path) -> None:
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=4", "model.init_scale=0.0"]
    trainer = setup_run(load_config("small", overrides)).trainer
    *_, last = trainer.evaluate("test")
    assert isinstance(last, Evaluating)
    assert last.score.perplexity == pytest.approx(10_000, rel=1e-5)


@pytest.mark.parametrize(("mode", "tokens"), [("stream", 82_429), ("sentence", 82_430)])
def test_eval_modes_have_one_target_per_token(mode: Mode, tokens: int, ptb_directory: Path) -> None:
    """Without context, the first token of the stream is not a target."""
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=2", "model.num_layers=1"]
    components = setup_run(load_config("small", overrides))
    tokenizer = components.corpus.tokenizer
    source = read_file(ptb_directory / "ptb.test.txt")
    lines = score_lines(
        components.trainer.model, lines_of(source, tokenizer), mode, tokenizer.line_end_id
    )
    nll = np.concatenate([line.scores.nll for line in lines])
    assert np.isfinite(nll).sum() == tokens


def test_neutral_settings_give_the_static_test_score(ptb_directory: Path) -> None:
    """The distribution over 10,000 words is computed, and gives the same score bit for bit."""
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=2", "model.num_layers=1"]
    components = setup_run(load_config("small", overrides))
    model, special_ids = components.trainer.model.eval(), components.corpus.tokenizer.special_ids
    ids = on_device(components.corpus.splits["test"].ids[:20_001], torch.device("cpu"))
    *_, static = running_scores(model, ids, special_ids=special_ids)
    neutral = Pipeline([model], EvaluationSettings(temperature=1.0), 20)
    *_, found = pipeline_scores(neutral, ids, special_ids)
    assert found == static
    assert found.tokens == 20_000


def test_probabilities_of_10000_words_sum_to_one(ptb_directory: Path) -> None:
    overrides = [f"data.path={ptb_directory}", "model.hidden_size=4", "model.init_scale=1.0"]
    components = setup_run(load_config("small", [*overrides, "model.dropout=0.5"]))
    model = components.trainer.model.eval()
    ids = on_device(components.corpus.splits["test"].ids[:201], torch.device("cpu"))
    settings = EvaluationSettings.model_validate(
        {
            "temperature": 0.8,
            "monte_carlo": {"samples": 3},
            "cache": {"window": 50, "weight": 0.2},
            "dynamic": {"rule": "sgd", "learning_rate": 0.1},
        }
    )
    pipeline = Pipeline([model, model], settings, 20)
    scorer = pipeline.start()
    for inputs, targets in text_chunks(ids, scorer):
        sums = scorer(inputs, targets).double().exp().sum(1)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-5)
