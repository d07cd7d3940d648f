"""The models of shipped configs have the parameters and the cost that the configs state."""

import re

import pytest
import torch

from ptblm.config.loading import load_config, shipped_configs
from ptblm.config.schema import Config
from ptblm.model.build import build_model
from ptblm.model.language_model import LanguageModel
from tests.conftest import SHIPPED_CONFIGS

# Of the Penn Treebank with each tokenizer.
VOCABULARY_SIZES = {"word": 10_000, "char": 51}
TRAINING_TOKENS = {"word": 929_589, "char": 5_017_482}


def meta_model(config: Config) -> LanguageModel:
    """The model without values."""
    with torch.device("meta"):
        return build_model(config.model, VOCABULARY_SIZES[config.data.tokenizer])


@pytest.mark.parametrize("name", [name for name in SHIPPED_CONFIGS if name != "test"])
def test_parameters_are_those_of_the_first_line(name: str) -> None:
    first_line = shipped_configs()[name].read_text().splitlines()[0]
    stated = re.search(r"([\d,]+) parameters on the Penn Treebank\.$", first_line)
    assert stated is not None
    assert len(first_line) <= 100
    assert meta_model(load_config(name)).parameter_count() == int(stated[1].replace(",", ""))


@pytest.mark.parametrize("name", [name for name in SHIPPED_CONFIGS if name != "test"])
def test_cost_is_that_of_the_matrix_multiplications(name: str) -> None:
    """Six operations per weight and token: two in the forward pass, four in the backward pass."""
    stated = re.search(r"Cost: (\d+) TFLOP per epoch", shipped_configs()[name].read_text())
    if stated is None:
        assert name in ("small", "medium", "large", "char")
        return
    config = load_config(name)
    weights = sum(
        weight.numel()
        for key, weight in meta_model(config).named_parameters()
        if weight.dim() > 1 and (key != "embedding.weight" or config.model.tie_embeddings)
    )
    cost = 6 * weights * TRAINING_TOKENS[config.data.tokenizer] / 1e12
    assert float(stated[1]) == pytest.approx(cost, abs=0.5)
