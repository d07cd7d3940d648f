"""Configs: the traps of YAML, located errors, overrides, and the shipped values."""

import json
from pathlib import Path

import pytest

from ptblm.config.loading import load_config, override_config, shipped_configs
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.errors import ConfigError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(path, text), overrides)
    return caught.value.what.replace(str(path), "my.yaml").splitlines()


# name: init_scale, learning_rate, max_grad_norm, layers, steps, hidden, full-rate epochs, epochs,
# keep_prob, lr_decay, batch: the tutorial's figures.
TUTORIAL = {
    "small": (0.1, 1.0, 5, 2, 20, 200, 4, 13, 1.0, 0.5, 20),
    "medium": (0.05, 1.0, 5, 2, 35, 650, 6, 39, 0.5, 0.8, 20),
    "large": (0.04, 1.0, 10, 2, 35, 1500, 14, 55, 0.35, 1 / 1.15, 20),
    "test": (0.1, 1.0, 1, 1, 2, 2, 1, 1, 1.0, 0.5, 20),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_shipped_configs_are_the_tutorials(name: str) -> None:
    config = load_config(name)
    model, training = config.model, config.training
    ours = (
        model.init_scale,
        training.learning_rate,
        training.max_grad_norm,
        model.num_layers,
        training.num_steps,
        model.hidden_size,
        training.full_rate_epochs,
        training.epochs,
        1 - model.dropout,
        training.learning_rate_decay,
        training.batch_size,
    )
    assert ours == pytest.approx(TUTORIAL[name], rel=1e-15)
    assert model.forget_bias == 0.0
    assert model.embedding_size is None


def test_all_shipped_configs_are_known() -> None:
    assert list(shipped_configs()) == ["small", "medium", "large", "char", "test"]


def test_a_key_that_does_not_exist_names_place_and_nearest(tmp_path: Path) -> None:
    assert problems(tmp_path / "my.yaml", "model:\n  hiden_size: 3\n") == [
        "my.yaml:2:3: model.hiden_size: unknown key, did you mean 'hidden_size'?"
    ]


def test_all_problems_come_at_once(tmp_path: Path) -> None:
    text = "model:\n  dropout: 1.0\ntraining:\n  learning_rate: fast\n  epochs: 0\n"
    found = problems(tmp_path / "my.yaml", text, "training.seed=-1", "model.size=3")
    assert [line.split(": ")[0] for line in found] == [
        "my.yaml:2:3",
        "--set model.size=3",
        "my.yaml:5:3",
        "my.yaml:4:3",
        "--set training.seed=-1",
    ]


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("max_max_epoch", "'training.epochs'"),
        ("max_epoch", "'training.full_rate_epochs'"),
        ("keep_prob", "1 - keep_prob"),
        ("lr_decay", "'training.learning_rate_decay'"),
        ("vocab_size", "taken from the training text"),
        ("hidden_size", "'model.hidden_size'"),
    ],
)
def test_the_tutorials_names_are_answered_by_ours(tmp_path: Path, key: str, answer: str) -> None:
    for text in (f"{key}: 1\n", f"training:\n  {key}: 1\n"):
        (line,) = problems(tmp_path / "my.yaml", text)
        assert answer in line


def test_a_key_in_the_wrong_section_is_sent_home(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "my.yaml", "model:\n  seed: 1\n")
    assert "belongs in 'training'" in line


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", ".001", "+1e-3"])
def test_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "my.yaml", f"training:\n  learning_rate: {text}\n")
    assert load_config(path).training.learning_rate == 0.001


@pytest.mark.parametrize("word", ["no", "off", "yes", "y"])
def test_no_is_a_word_and_not_false(tmp_path: Path, word: str) -> None:
    (line,) = problems(tmp_path / "my.yaml", f"training:\n  precision: {word}\n")
    assert f"got '{word}'" in line


def test_numbers_are_decimal(tmp_path: Path) -> None:
    path = write(tmp_path / "my.yaml", "training:\n  num_steps: 12\ndata:\n  path: 1:30\n")
    assert load_config(path).data.path == "1:30"  # sixty-based in YAML 1.1


def test_a_repeated_key_names_both_lines(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "my.yaml", "model:\n  num_layers: 1\n  num_layers: 2\n")
    assert line == "my.yaml:3:3: 'num_layers' is given twice, first in line 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1, 2", "my.yaml:1:13: not valid YAML"),
        ("- 1\n", "my.yaml:1:1: expected sections"),
        ("model: 3\n", "my.yaml:1:1: model: expected a section of keys, got 3"),
        ("model:\n  num_layers: 2.5\n", "my.yaml:2:3: model.num_layers: expected a whole number"),
        ("model:\n  num_layers: true\n", "expected a whole number, got true"),
        ("model:\n  dropout: .nan\n", "my.yaml:2:3: model.dropout: expected a finite number"),
        ("model:\n  dropout: '0.5'\n", "my.yaml:2:3: model.dropout: expected a number, got '0.5'"),
        ("model: &a\n  num_layers: 2\ntraining: *a\n", "aliases"),
        ("model: !!python/object:os.system {}\n", "not supported"),
        ("training:\n  seed: " + "9" * 5000, "can't be read as a value"),
        ("? [a]\n: 1\n", "a key must be a plain word"),
        ("[" * 5000, "my.yaml: nested too deeply"),
        ("model: \x00\n", "not valid YAML"),
    ],
    ids=range(13),
)
def test_bad_documents_are_located(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path / "my.yaml", text)[0]


def test_not_text_and_not_there(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(b"model:\n  \xff\xfe: 1\n")
    with pytest.raises(ConfigError, match=r"my.yaml:2: not UTF-8"):
        load_config(str(path))
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(str(tmp_path / "other.yaml"))
    with pytest.raises(ConfigError, match="did you mean 'medium'"):
        load_config("medum")


def test_overrides_split_at_the_first_equals_sign() -> None:
    config = load_config("small", ["data.path=a=b", "model.dropout=1e-1"])
    assert config.data.path == "a=b"
    assert config.model.dropout == 0.1


@pytest.mark.parametrize("text", ["", "model", "=3", "model.=3", ".x=1", "model.num_layers.x=1"])
def test_bad_overrides_say_which(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config("small", [text])


@pytest.mark.parametrize(
    ("key", "value", "users"),
    [
        ("momentum", "0.5", "optimizer momentum"),
        ("adam_beta1", "0.5", "optimizer adam"),
        ("adam_beta2", "0.5", "optimizer adam"),
        ("rmsprop_decay", "0.5", "optimizer rmsprop"),
        ("epsilon", "0.5", "optimizer adam or rmsprop"),
        ("patience", "2", "schedule plateau"),
        ("final_learning_rate", "0.5", "schedule cosine"),
    ],
)
def test_a_key_without_use_is_refused(tmp_path: Path, key: str, value: str, users: str) -> None:
    """Unless it says what it is by default, or its user is chosen."""
    path = tmp_path / "my.yaml"
    chooser, *choices = users.replace(" or", "").split()
    chosen = {"optimizer": "sgd", "schedule": "tutorial"}[chooser]
    text = f"training:\n  {key}: {value}\n"
    (line,) = problems(path, text)
    assert line == (
        f"my.yaml:2:3: training.{key}: is for {users} only, and {chooser} is {chosen}, got {value}"
    )
    for choice in choices:
        config = load_config(write(path, text), [f"training.{chooser}={choice}"])
        assert getattr(config.training, key) == float(value)
    default = getattr(Config().training, key)
    load_config(write(path, f"training:\n  {key}: {default}\n"))


def test_the_tutorials_keys_may_stand_idle() -> None:
    """Every shipped config sets them, and is to be tried with other schedules, too."""
    config = load_config("medium", ["training.schedule=cosine"])
    assert config.training.full_rate_epochs == 6


def test_a_cosine_may_not_rise(tmp_path: Path) -> None:
    text = "training:\n  schedule: cosine\n  final_learning_rate: 2\n"
    (line,) = problems(tmp_path / "my.yaml", text)
    assert line.startswith("my.yaml:3:3: training.final_learning_rate: must be at most")


def test_an_empty_file_is_the_small_config(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "my.yaml", "# nothing\n")) == load_config("small")


@pytest.mark.parametrize("name", TUTORIAL)
def test_a_shown_config_loads_as_itself(tmp_path: Path, name: str) -> None:
    config = load_config(name)
    assert load_config(write(tmp_path / "my.yaml", config_document(config))) == config


@pytest.mark.parametrize(
    "path", ["no", "1e-3", "a # b", "a: b", "'", '"', "- x", "null", "ünï", "x\ty", " x ", "~", "{"]
)
def test_any_text_survives_being_shown(tmp_path: Path, path: str) -> None:
    config = Config.model_validate({"data": {"path": path}})
    assert load_config(write(tmp_path / "my.yaml", config_document(config))) == config


def test_every_key_is_explained() -> None:
    for name, section in Config.model_fields.items():
        for key, field in section.annotation.model_fields.items():  # type: ignore[union-attr]
            assert field.description, f"{name}.{key}"


def test_a_config_cannot_be_changed_in_place() -> None:
    config = load_config("small")
    with pytest.raises(ValueError, match="frozen"):
        config.model.num_layers = 3
    assert override_config(config, ["model.num_layers=3"]).model.num_layers == 3
    assert config.model.num_layers == 2


@pytest.mark.parametrize(
    ("cell", "option", "value"),
    [
        ("gru", "peepholes", "true"),
        ("rnn", "forget_bias", "1.0"),
        ("lstm", "reset_gate", "before"),
        ("slstm", "janet_beta", "2"),
        ("janet", "mogrifier_rounds", "3"),
        ("mogrifier", "chrono_steps", "30"),
        ("mine:Cell", "activation", "relu"),
    ],
)
def test_an_option_of_another_cell_is_refused(cell: str, option: str, value: str) -> None:
    """It would change nothing; but its default, as `config show` writes it, is no offence."""
    overrides = [f"model.cell={cell}", f"model.{option}={value}"]
    with pytest.raises(ConfigError) as error:
        load_config("small", overrides)
    place = f"--set model.{option}={value}: model.{option}: is for cell "
    assert error.value.what.startswith(place)
    assert f"and cell is {cell}" in error.value.what
    default = getattr(load_config("small").model, option)
    load_config("small", [f"model.cell={cell}", f"model.{option}={json.dumps(default)}"])


@pytest.mark.parametrize(
    "cell", ["LSTM", "lstm2", "module.Class", ":Cell", "module:", "a b:C", "1:C"]
)
def test_a_cell_that_cannot_be_is_refused(cell: str) -> None:
    with pytest.raises(ConfigError, match=r"expected lstm, rnn, gru.* or my_module:MyCell"):
        load_config("small", [f"model.cell='{cell}'"])
