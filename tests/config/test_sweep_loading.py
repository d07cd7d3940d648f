"""Sweeps: every problem has its location, and nothing that could be drawn is left unchecked."""

from pathlib import Path

import pytest

from ptblm.config.sweep_loading import load_sweep
from ptblm.config.sweep_space import Sweep
from ptblm.errors import ConfigError

TOP = "trials: 3\nspace:\n  "


def load(text: str, directory: Path) -> Sweep:
    path = directory / "s.yaml"
    path.write_text(text)
    return load_sweep(path)


@pytest.mark.parametrize(
    ("text", "location", "message"),
    [
        (TOP + "training.learning_rte: [1, 2]", "3:27", "did you mean 'learning_rate'?"),
        (TOP + "training.learning_rate: {low: 3, high: 1}", "3:36", "greater than low, 3, got 1"),
        (TOP + "training.learning_rate: {low: 0, high: 1, log: true}", "3:28", "than 0 with log"),
        (TOP + "training.learning_rate: {low: -1, high: 1}", "3:28", "greater than 0, got -1"),
        (TOP + "training.learning_rate: {low: 1, hihg: 2}", "3:36", "did you mean 'high'?"),
        (TOP + "training.learning_rate: {low: 1}", "3:3", "high: missing"),
        (TOP + "training.learning_rate: {low: a, high: 2}", "3:28", "low"),
        (TOP + "training.learning_rate: 3", "3:3", "expected a list of choices, or a section"),
        (TOP + "training.learning_rate: []", "3:3", "expected a list that is not empty"),
        (TOP + "training.learning_rate: [1, x]", "3:31", "expected a number, got 'x'"),
        (TOP + "training.learning_rate: [1, 1]", "3:3", "a choice occurs twice"),
        (TOP + "model.hidden_size: {low: 1.5, high: 9}", "3:23", "a whole number, got 1.5"),
        (TOP + "model.hidden_size: {low: 1, high: 2, step: 0.5}", "3:40", "a whole number"),
        (TOP + "model.hidden_size: {low: 1, high: 9, step: 5}", "3:40", "must divide"),
        (TOP + "model.cell: [lstm, grru]", "3:22", "did you mean 'gru'?"),
        (TOP + "model.cell.reset_gate: [after]", "3:27", "unknown key for cell 'lstm'"),
        (TOP + "model.cell: [gru, lstm]\n  model.cell.gate: [1]", "4:21", "unknown key for"),
        (TOP + "model: [1]", "3:11", "expected a section of keys"),
        (TOP + "data.tokenizer: [word, char]", "3:3", "cannot be compared"),
        (
            # The ends of the two ranges do not fit together.
            TOP + "training.learning_rate: {low: 0.1, high: 2}\n"
            "  training.schedule.final_learning_rate: {low: 0.01, high: 0.5}\n"
            "set: {training.schedule: cosine}",
            "4:54",
            "must be at most learning_rate, got 0.5",
        ),
        ("space: {model.dropout: [0.1]}", "1:1", "trials: missing"),
        ("space: {model.dropout: [0.1]}\ntrials: 0", "2:1", "greater than or equal to 1"),
        ("space: {model.dropout: [0.1]}\ntrials: 1\npruner: medn", "3:1", "median, hyperband or"),
        (
            "space: {model.dropout: [0.1]}\ntrials: 1\npruner: {type: median, strtup: 1}",
            "3:24",
            "did you mean 'startup'?",
        ),
        ("space: {model.dropout: [0.1]}\ntrials: 1\nset: {trian.x: 1}", "3:7", "trian"),
        ("space: {model.dropout: [0.1]}\ntrials: 1\nconfig: smal", "3:1", "did you mean 'small'?"),
        ("space: {model.dropout: [0.1]}\ntrials: 1\nrepeat_best: {tp: 1}", "3:15", "top, seeds"),
        ("space: {model.dropout: {low: 0, high: 0.5}}\nsampler: grid", "1:9", "a grid needs"),
        ("space: {training.seed: {low: 0, high: 99999}}\nsampler: grid", "1:1", "10,000 points"),
        ("[1]", "1:1", "expected the keys of a sweep"),
        ("space: {a: [1]}\nspace: {b: [1]}", "2:1", "duplicate key"),
    ],
)
def test_problem_has_its_location(text: str, location: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, tmp_path)
    assert f"s.yaml:{location}: " in caught.value.what
    assert message in caught.value.what
    assert caught.value.exit_code == 2


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load("trials: 1\nspace:\n  model.dropout: [2]\n  training.epochs: [0]\n", tmp_path)
    assert [problem.split(": ")[1] for problem in caught.value.problems] == [
        "model.dropout",
        "training.epochs",
    ]


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the sweep cannot be read"):
        load_sweep(tmp_path / "missing.yaml")


def test_grid_contains_every_config_once(tmp_path: Path) -> None:
    text = """
sampler: grid
space:
  training.optimizer.beta1: [0.8, 0.9]
  model.dropout: {low: 0.1, high: 0.4, step: 0.1}
  training.optimizer: [sgd, adam]
"""
    sweep = load(text, tmp_path)
    configs = [sweep.config(draw) for draw in sweep.grid()]
    documents = {config.model_dump_json() for config in configs}
    assert len(sweep.grid()) == len(documents) == 4 * (1 + 2)  # beta1 is an option of adam only
    assert {config.model.dropout.output for config in configs} == {0.1, 0.2, 0.3, 0.4}
    assert {config.training.optimizer.options.get("beta1") for config in configs} == {
        *(None, 0.8, 0.9)
    }


def test_type_of_a_key_decides_what_a_range_contains(tmp_path: Path) -> None:
    text = """
trials: 1
space:
  training.learning_rate: {low: 1, high: 3}
  model.hidden_size: {low: 1, high: 3}
  model.embedding_size: {low: 1, high: 3}
  model.head: [softmax, mixture]
  model.head.components: {low: 1, high: 3}
"""
    found = {
        each.key.rpartition(".")[2]: each.is_integer for each in load(text, tmp_path).parameters
    }
    assert found == {
        "learning_rate": False,
        "hidden_size": True,
        "embedding_size": True,
        "head": False,
        "components": True,
    }


def test_choices_can_be_lists_and_variants_with_options(tmp_path: Path) -> None:
    text = """
sampler: grid
config: speedrun
set: {training.epochs: 2, model.tie_embeddings: false}
space:
  model.layer_sizes: [[30, 20], [40]]
  model.cell: [lstm, {type: gru, reset_gate: before}]
"""
    sweep = load(text, tmp_path)
    configs = [sweep.config(draw) for draw in sweep.grid()]
    assert {tuple(config.model.units) for config in configs} == {(30, 20), (40,)}
    assert configs[-1].model.cell.options["reset_gate"] == "before"
    assert {config.training.epochs for config in configs} == {2}
