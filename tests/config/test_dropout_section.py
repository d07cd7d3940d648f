"""`model.dropout`: a section, or a number that stands for three of its keys."""

from pathlib import Path
from typing import Any

import pytest

from ptblm.config.differences import config_differences
from ptblm.config.dropout import DropoutConfig
from ptblm.config.loading import load_config, override_config
from ptblm.config.model import ModelConfig
from ptblm.config.show import config_document
from ptblm.errors import ConfigError

HALF = {"input": 0.5, "between": 0.5, "output": 0.5}


def dropout(*overrides: str, config: str = "medium") -> dict[str, Any]:
    """The keys that differ from their defaults; medium has `dropout: 0.5`."""
    found = load_config(config, [f"model.dropout{override}" for override in overrides])
    return found.model.dropout.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], HALF),
        (["=0.25"], {"input": 0.25, "between": 0.25, "output": 0.25}),
        (["=0"], {}),
        ([".output=0.4"], {**HALF, "output": 0.4}),
        ([".output=0.4", "=0.3"], {"input": 0.3, "between": 0.3, "output": 0.4}),
        (["=0.3", ".locked=true"], {"input": 0.3, "between": 0.3, "output": 0.3, "locked": True}),
        (["={input: 0.1, locked: true}"], {"input": 0.1, "locked": True}),
        (["={}"], {}),
    ],
)
def test_number_is_shorthand_for_three_keys(overrides: list[str], expected: dict[str, Any]) -> None:
    assert dropout(*overrides) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", HALF),
        ("0", {}),
        ("{output: 0.5}", {"output": 0.5}),
        (
            "\n    embedding: 0.1\n    recurrent_state: 0.2",
            {"embedding": 0.1, "recurrent_state": 0.2},
        ),
    ],
)
def test_file_has_a_number_or_a_section(
    tmp_path: Path, text: str, expected: dict[str, Any]
) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"model:\n  dropout: {text}\n")
    assert dropout(config=str(path)) == expected
    assert dropout(".output=0.7", config=str(path)) == {**expected, "output": 0.7}
    assert dropout("=0.5", config=str(path)) == HALF


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("=1", "model.dropout: must be less than 1, got 1"),
        ("=-0.1", "model.dropout: must be greater than or equal to 0, got -0.1"),
        ("=true", "model.dropout: expected a number or a section of keys (input, between, "),
        ("=null", "model.dropout: expected a number or a section of keys (input, between, "),
        (".output=1.5", "model.dropout.output: must be less than 1, got 1.5"),
        (".locked=1", "model.dropout.locked: expected true or false, got 1"),
        (".inptu=0.1", "model.dropout.inptu: unknown key, did you mean 'input'?"),
        ("={inptu: 0.1}", "model.dropout.inptu: unknown key, did you mean 'input'?"),
        (".wdrop=0.1", "model.dropout.wdrop: unknown key; use 'model.dropout.recurrent_weights'"),
    ],
)
def test_problem_names_the_key_and_the_option(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        dropout(override)
    assert error.value.what.startswith(f"--set model.dropout{override}: {message}")


def test_problem_in_a_file_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("model:\n  dropout:\n    input: 0.1\n    output: 2\n")
    with pytest.raises(ConfigError, match=r"my.yaml:4:5: model.dropout.output: must be less"):
        load_config(str(path))


def test_shown_config_loads_back(tmp_path: Path) -> None:
    config = load_config("medium", ["model.dropout.recurrent_weights=0.2"])
    path = tmp_path / "shown.yaml"
    path.write_text(config_document(config))
    assert load_config(str(path)) == config


def test_differences_name_single_keys() -> None:
    before = load_config("medium")
    after = override_config(before, ["model.dropout.locked=true", "model.dropout.input=0.4"])
    expected = [("model.dropout.input", 0.5, 0.4), ("model.dropout.locked", False, True)]
    assert config_differences(before, after) == expected


def test_config_of_an_earlier_checkpoint_has_a_number() -> None:
    model = ModelConfig.model_validate({"dropout": 0.25})
    assert model.dropout == DropoutConfig.everywhere(0.25)
