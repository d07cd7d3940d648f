"""The models of shipped configs have as many parameters as the first line of the config states."""

import re

import pytest
import torch

from ptblm.config.loading import load_config, shipped_configs
from ptblm.model.build import build_model
from tests.conftest import SHIPPED_CONFIGS

# Tokens of the Penn Treebank with each tokenizer.
VOCABULARY_SIZES = {"word": 10_000, "char": 51}


@pytest.mark.parametrize("name", [name for name in SHIPPED_CONFIGS if name != "test"])
def test_parameters_are_those_of_the_first_line(name: str) -> None:
    first_line = shipped_configs()[name].read_text().splitlines()[0]
    stated = re.search(r"([\d,]+) parameters on the Penn Treebank\.$", first_line)
    assert stated is not None
    assert len(first_line) <= 100
    config = load_config(name)
    with torch.device("meta"):
        model = build_model(config.model, VOCABULARY_SIZES[config.data.tokenizer])
    assert model.parameter_count() == int(stated[1].replace(",", ""))
