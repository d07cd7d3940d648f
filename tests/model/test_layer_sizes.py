"""Layers of different sizes: `model.layer_sizes`."""

from pathlib import Path

import pytest
import torch

from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.config.show import config_document
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.run.load_model import load_model
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, options, tiny

SIZES = ["model.layer_sizes=[6,5,3]", "model.num_layers=3", "model.hidden_size=6"]


def test_parameters_of_the_awd_lstm_model() -> None:
    # AWD-LSTM on the Penn Treebank has 24,221,600 parameters, of which 10,800 are the second bias
    # of each layer.
    config = ModelConfig(layer_sizes=[1150, 1150, 400], embedding_size=400, tie_embeddings=True)
    with torch.device("meta"):
        model = build_model(config, 10_000)
    assert model.parameter_count() == 24_221_600 - 4 * (1150 + 1150 + 400)


def test_layers_have_the_sizes_of_the_config() -> None:
    model = build_model(ModelConfig(layer_sizes=[6, 5, 3], embedding_size=4), 10)
    shapes = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    layers = [f"recurrent.layers.{index}.cell.gates.weight_ih" for index in range(3)]
    assert [shapes[name] for name in layers] == [[24, 4], [20, 6], [12, 5]]
    assert shapes["head.weight"] == [10, 3]


def test_equal_sizes_are_the_same_model() -> None:
    one = build_model(ModelConfig(layer_sizes=[4, 4]), 10)
    two = build_model(ModelConfig(hidden_size=4, num_layers=2), 10)
    assert {n: p.shape for n, p in one.named_parameters()} == {
        n: p.shape for n, p in two.named_parameters()
    }


def test_number_and_largest_size_follow_from_the_list() -> None:
    config = ModelConfig(layer_sizes=[3, 7, 5])
    assert (config.num_layers, config.hidden_size) == (3, 7)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_layers=2", "model.num_layers: must be 3 with model.layer_sizes [6, 5, 3]"),
        ("model.hidden_size=8", "model.hidden_size: must be 6 with model.layer_sizes [6, 5, 3]"),
        ("model.layer_sizes=[]", "model.layer_sizes: expected a list that is not empty"),
        ("model.layer_sizes=[6, 0, 3]", "model.layer_sizes.1: must be greater than or equal to 1"),
        ("model.layer_sizes=6", "model.layer_sizes: expected a list"),
    ],
)
def test_conflicts_are_reported(override: str, message: str) -> None:
    key = override.partition("=")[0]
    others = [size for size in SIZES if not size.startswith(f"{key}=")]
    with pytest.raises(ConfigError) as caught:
        load_config("small", [*others, override])
    assert message in str(caught.value)


def test_config_document_loads_back(tmp_path: Path) -> None:
    config = load_config("small", SIZES)
    (tmp_path / "config.yaml").write_text(config_document(config))
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_training_with_different_sizes_resumes_exactly(in_directory: Path) -> None:
    arguments = ["train", *options(tiny(*SIZES, "model.dropout=0.1", "training.epochs=2"))]
    assert ptblm(*arguments, "--run-dir", "whole")[0] == 0
    shorter = [word.replace("training.epochs=2", "training.epochs=1") for word in arguments]
    assert ptblm(*shorter, "--run-dir", "resumed")[0] == 0
    assert ptblm("train", "--resume", "resumed", "--set", "training.epochs=2")[0] == 0
    assert_same_end(Path("resumed"), Path("whole"))
    loaded = load_model(Path("resumed"))
    assert [layer.cell.hidden_size for layer in loaded.model.recurrent.layers] == [6, 5, 3]


def test_resume_cannot_change_the_sizes(in_directory: Path) -> None:
    assert ptblm("train", *options(tiny(*SIZES)), "--run-dir", "run")[0] == 0
    code, errors, _ = ptblm("train", "--resume", "run", "--set", "model.layer_sizes=[6,4,3]")
    assert code == 2
    assert "model.layer_sizes" in errors
    code, errors, _ = ptblm("checkpoint", "verify", "run")
    assert code == 0, errors
