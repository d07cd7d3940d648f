"""Cells, optimizers and schedules in configs: shorthand, overrides, errors and round trips."""

import itertools
import json
from pathlib import Path
from typing import Any, get_args

import pytest

from ptblm.config.differences import config_differences
from ptblm.config.loading import load_config, override_config, validate
from ptblm.config.schema import VARIANT_KEYS, Config
from ptblm.config.section import Section, Variant
from ptblm.config.show import config_document
from ptblm.config.yaml_document import YamlDocument, parse_yaml
from ptblm.errors import ConfigError
from tests.conftest import SHIPPED_CONFIGS

GRU_BEFORE = {
    "type": "gru",
    "reset_gate": "before",
    "gate_activation": "sigmoid",
    "activation": "tanh",
}
VARIANTS = [
    (".".join(map(str, path)), name)
    for path, variants in VARIANT_KEYS.items()
    for name in variants.options
]


def load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(str(path), overrides)


def problem(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("small", overrides)
    return caught.value.what


def file_problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    return caught.value.what.replace(str(tmp_path / "my.yaml"), "my.yaml").splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "model:\n  cell: gru\n",
        "model: {cell: {type: gru}}\n",
        "model:\n  cell:\n    type: gru\n    reset_gate: after\n",
    ],
)
def test_name_is_shorthand_for_type(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text).model.cell.model_dump() == {**GRU_BEFORE, "reset_gate": "after"}


@pytest.mark.parametrize("text", ["", "model: {cell: lstm}", "model: {cell: gru}"])
@pytest.mark.parametrize(
    "overrides",
    [
        ["model.cell=gru", "model.cell.reset_gate=before"],
        ["model.cell.type=gru", "model.cell.reset_gate=before"],
        ["model.cell={type: gru, reset_gate: before}"],
        ["model.cell=gru", "model.cell={reset_gate: before}", "model.cell.type=gru"],
    ],
)
def test_overrides_choose_a_variant_in_any_order(
    tmp_path: Path, text: str, overrides: list[str]
) -> None:
    for order in itertools.permutations(overrides):
        assert load(tmp_path, text, *order).model.cell.model_dump() == GRU_BEFORE


@pytest.mark.parametrize(("key", "name"), VARIANTS)
@pytest.mark.parametrize("source", SHIPPED_CONFIGS)
def test_shipped_configs_take_every_variant(source: str, key: str, name: str) -> None:
    section, field = key.split(".")
    needed = ["model.tie_embeddings=false", "model.softmax_bias=zeros"] * (name == "adaptive")
    config = load_config(source, [f"{key}={name}", *needed])
    assert getattr(getattr(config, section), field).type == name


def test_choosing_another_variant_drops_options(tmp_path: Path) -> None:
    text = "training:\n  schedule: {type: tutorial, full_rate_epochs: 9, decay: 0.9}\n"
    plateau = load(tmp_path, text, "training.schedule=plateau").training.schedule
    assert plateau.options == {"patience": 0, "decay": 0.5}
    same = load(tmp_path, text, "training.schedule=tutorial").training.schedule
    assert same.options == {"full_rate_epochs": 9, "decay": 0.9}
    assert override_config(load(tmp_path, text), ["model.cell=gru"]).model.cell.type == "gru"


def test_options_without_a_type_are_of_the_default(tmp_path: Path) -> None:
    config = load(tmp_path, "model: {cell: {forget_bias: 1.0}}\n", "training.schedule.decay=0.9")
    assert config.model.cell.options["forget_bias"] == 1.0
    assert config.training.schedule.options["decay"] == 0.9


def test_contradicting_overrides_are_an_error() -> None:
    found = problem("model.cell.type=lstm", "model.cell=gru")
    assert found == "model.cell is set twice: to lstm and to gru"
    found = problem("model.hidden_size=5", "model.hidden_size=6")
    assert found == "model.hidden_size is set twice: to 5 and to 6"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.cell.reset_gate=before", "unknown key for cell 'lstm'; it is an option of gru"),
        ("training.optimizer.epsilon=1", "for optimizer 'sgd'; it is an option of adam, "),
        ("model.cell.forget_bais=1", "unknown key, did you mean 'forget_bias'?"),
        ("model.cell.hidden_size=1", "unknown key here; it belongs in 'model'"),
        ("training.optimizer.qqq=1", "unknown key for optimizer 'sgd'; it has no options"),
        ("model.cell.qqq=1", "its options are forget_bias, peepholes"),
        ("model.cell.forget_bias=x", "expected a number, got 'x'"),
    ],
)
def test_bad_option_is_explained(override: str, message: str) -> None:
    found = problem(override)
    assert found.startswith(f"--set {override}: {override.split('=')[0]}: ")
    assert message in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model:\n  cell: lsmt\n", "my.yaml:2:3: model.cell: expected lstm, rnn, "),
        ("model:\n  cell:\n    type: lsmt\n", "my.yaml:3:5: model.cell: expected lstm, rnn, "),
    ],
)
def test_unknown_variant_suggests_nearest(tmp_path: Path, text: str, expected: str) -> None:
    (line,) = file_problems(tmp_path, text)
    assert line.startswith(expected)
    assert line.endswith("got 'lsmt'; did you mean 'lstm'?")


@pytest.mark.parametrize("value", ["3", "", "[1]", "true"])
def test_variant_must_be_a_name_or_a_mapping(value: str) -> None:
    found = problem(f"training.optimizer={value}")
    place = f"--set training.optimizer={value}: training.optimizer: "
    assert found.startswith(place + "expected sgd, momentum, adam, adamw, nadam, muon or ")


def test_problems_of_options_are_located_without_the_tag(tmp_path: Path) -> None:
    text = "model:\n  cell:\n    type: gru\n    reset_gate: never\n    forget_bias: 1\n"
    assert file_problems(tmp_path, text) == [
        "my.yaml:4:5: model.cell.reset_gate: expected 'before' or 'after', got 'never'",
        "my.yaml:5:5: model.cell.forget_bias: unknown key for cell 'gru'; it is an option of "
        "lstm, slstm, mogrifier, rlstm",
    ]


FORMER = {
    "model": {
        "forget_bias": "model.cell",
        "peepholes": "model.cell",
        "projection_size": "model.cell",
        "gate_activation": "model.cell",
        "activation": "model.cell",
        "reset_gate": "model.cell",
        "janet_beta": "model.cell.beta",
        "chrono_steps": "model.cell",
        "mogrifier_rounds": "model.cell.rounds",
    },
    "training": {
        "momentum": "training.optimizer",
        "adam_beta1": "training.optimizer.beta1",
        "adam_beta2": "training.optimizer.beta2",
        "rmsprop_decay": "training.optimizer.decay",
        "epsilon": "training.optimizer",
        "full_rate_epochs": "training.schedule",
        "learning_rate_decay": "training.schedule.decay",
        "patience": "training.schedule.patience",
        "final_learning_rate": "training.schedule",
        "device": "run",
        "precision": "run",
        "checkpoint_every": "run",
        "keep_checkpoints": "run",
        "deterministic": "run",
        "plain": "run.fused: false",
        "log_every": "run",
        "tensorboard": "run",
    },
    "data": {"level": "data.tokenizer"},
}


@pytest.mark.parametrize("section", FORMER)
def test_former_keys_are_answered_with_the_new_ones(section: str) -> None:
    for key, answer in FORMER[section].items():
        assert f"'{answer}'" in problem(f"{section}.{key}=1"), key


@pytest.mark.parametrize("options", [{}, {"alpha": 0.5, "kind": "a: b", "on": True, "n": 3}])
def test_custom_cells_take_any_options(tmp_path: Path, options: dict[str, Any]) -> None:
    overrides = [f"model.cell.{key}={json.dumps(value)}" for key, value in options.items()]
    config = load_config("small", [*overrides, "model.cell=my_module:MyCell"])
    assert config.model.cell.model_dump() == {"type": "my_module:MyCell", **options}
    assert load(tmp_path, config_document(config)) == config


@pytest.mark.parametrize("value", ["[1]", "null", "{a: 1}", ".nan", ".inf"])
def test_option_of_a_custom_cell_must_be_a_scalar(tmp_path: Path, value: str) -> None:
    text = f"model:\n  cell:\n    type: my_module:MyCell\n    alpha: {value}\n"
    (line,) = file_problems(tmp_path, text)
    assert line.startswith("my.yaml:4:5: model.cell.alpha: expected a ")


@pytest.mark.parametrize("name", ["two words", "1st"])
def test_option_of_a_custom_cell_must_be_an_identifier(tmp_path: Path, name: str) -> None:
    (line,) = file_problems(tmp_path, f"model:\n  cell:\n    type: m:C\n    {name}: 1\n")
    assert f"model.cell.{name}: the name of an option must be a Python identifier" in line


@pytest.mark.parametrize(("key", "name"), [*VARIANTS, ("model.cell", "my_module:MyCell")])
def test_every_variant_is_shown_and_dumped(tmp_path: Path, key: str, name: str) -> None:
    config = load_config("medium", [f"{key}={name}"])
    assert load(tmp_path, config_document(config)) == config
    plain = json.loads(json.dumps(config.model_dump()))
    assert validate(YamlDocument(plain, {})) == config


def test_show_prints_only_keys_that_apply() -> None:
    shown = parse_yaml(config_document(load_config("small", ["model.cell=rnn"])), "shown").data
    assert shown["model"]["cell"] == {"type": "rnn", "activation": "tanh"}
    assert shown["training"]["optimizer"] == {"type": "sgd"}


def check_descriptions(section: type[Section]) -> None:
    for key, field in section.model_fields.items():
        if isinstance(field.default, Variant):
            assert field.description, key
            for member in get_args(field.annotation):
                assert get_args(member)[0].__doc__, member
                check_descriptions(get_args(member)[0])
        elif isinstance(field.default, Section):
            check_descriptions(type(field.default))
        elif key != "type":
            assert field.description, f"{section.__name__}.{key}"


def test_every_key_has_a_description() -> None:
    check_descriptions(Config)


def test_descriptions_of_options_are_shown() -> None:
    shown = config_document(load_config("small", ["training.schedule=plateau"])).splitlines()
    at = shown.index("    patience: 0")
    assert shown[at - 1] == "    # epochs without improvement before the learning rate is decayed"


def test_differences_name_keys_and_variants() -> None:
    before = load_config("small")
    after = load_config(
        "small", ["model.cell=gru", "training.schedule.decay=0.9", "run.fused=false"]
    )
    assert config_differences(before, after) == [
        ("model.cell", "lstm", "gru"),
        ("training.schedule.decay", 0.5, 0.9),
        ("run.fused", True, False),
    ]
