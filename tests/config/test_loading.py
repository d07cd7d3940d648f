"""Loading configs: YAML pitfalls, located errors, overrides, and the shipped values."""

import contextlib
from pathlib import Path

import pytest

from ptblm.config.cells import LSTMConfig
from ptblm.config.dropout import DropoutConfig
from ptblm.config.loading import load_config, override_config, shipped_configs, validate
from ptblm.config.schedules import TutorialSchedule
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.config.yaml_document import parse_yaml
from ptblm.errors import ConfigError
from tests.conftest import SHIPPED_CONFIGS


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems(path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(path, text), overrides)
    return caught.value.what.replace(str(path), "my.yaml").splitlines()


# name: init_scale, learning_rate, max_grad_norm, layers, steps, hidden, full-rate epochs, epochs,
# keep_prob, lr_decay, batch: the values of the tutorial.
TUTORIAL = {
    "small": (0.1, 1.0, 5, 2, 20, 200, 4, 13, 1.0, 0.5, 20),
    "medium": (0.05, 1.0, 5, 2, 35, 650, 6, 39, 0.5, 0.8, 20),
    "large": (0.04, 1.0, 10, 2, 35, 1500, 14, 55, 0.35, 1 / 1.15, 20),
    "test": (0.1, 1.0, 1, 1, 2, 2, 1, 1, 1.0, 0.5, 20),
}


@pytest.mark.parametrize("name", TUTORIAL)
def test_shipped_configs_equal_the_tutorial(name: str) -> None:
    config = load_config(name)
    model, training = config.model, config.training
    cell, schedule = model.cell, training.schedule
    assert isinstance(cell, LSTMConfig)
    assert isinstance(schedule, TutorialSchedule)
    ours = (
        model.init_scale,
        training.learning_rate,
        training.max_grad_norm,
        model.num_layers,
        training.num_steps,
        model.hidden_size,
        schedule.full_rate_epochs,
        training.epochs,
        1 - model.dropout.output,
        schedule.decay,
        training.batch_size,
    )
    assert ours == pytest.approx(TUTORIAL[name], rel=1e-15)
    assert cell.forget_bias == 0.0
    assert model.embedding_size is None


def test_all_shipped_configs_are_known() -> None:
    assert list(shipped_configs()) == SHIPPED_CONFIGS


def test_unknown_key_suggests_nearest(tmp_path: Path) -> None:
    assert problems(tmp_path / "my.yaml", "model:\n  hiden_size: 3\n") == [
        "my.yaml:2:3: model.hiden_size: unknown key, did you mean 'hidden_size'?"
    ]


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
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
        ("max_epoch", "'training.schedule.full_rate_epochs'"),
        ("keep_prob", "1 - keep_prob"),
        ("lr_decay", "'training.schedule.decay'"),
        ("vocab_size", "taken from the training text"),
        ("hidden_size", "it belongs in 'model'"),
    ],
)
def test_names_of_the_tutorial_are_explained(tmp_path: Path, key: str, answer: str) -> None:
    for text in (f"{key}: 1\n", f"training:\n  {key}: 1\n"):
        (line,) = problems(tmp_path / "my.yaml", text)
        assert answer in line


def test_misplaced_key_names_its_section(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "my.yaml", "model:\n  seed: 1\n")
    assert "belongs in 'training'" in line


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "0.001", ".001", "+1e-3"])
def test_scientific_notation_is_a_number(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "my.yaml", f"training:\n  learning_rate: {text}\n")
    assert load_config(path).training.learning_rate == 0.001


@pytest.mark.parametrize("word", ["no", "off", "yes", "y"])
def test_no_and_yes_are_text(tmp_path: Path, word: str) -> None:
    (line,) = problems(tmp_path / "my.yaml", f"run:\n  precision: {word}\n")
    assert f"got '{word}'" in line


def test_integers_are_decimal(tmp_path: Path) -> None:
    path = write(tmp_path / "my.yaml", "training:\n  num_steps: 12\ndata:\n  path: 1:30\n")
    assert load_config(path).data.path == "1:30"  # a base-60 integer in YAML 1.1


def test_duplicate_key_names_both_lines(tmp_path: Path) -> None:
    (line,) = problems(tmp_path / "my.yaml", "model:\n  num_layers: 1\n  num_layers: 2\n")
    assert line == "my.yaml:3:3: 'num_layers' is a duplicate key, first used on line 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1, 2", "my.yaml:1:13: not valid YAML"),
        ("- 1\n", "my.yaml:1:1: expected sections"),
        ("model: 3\n", "my.yaml:1:1: model: expected a section of keys (cell, hidden_size"),
        ("model:\n  num_layers: 2.5\n", "my.yaml:2:3: model.num_layers: expected a whole number"),
        ("model:\n  num_layers: true\n", "expected a whole number, got true"),
        ("model:\n  dropout: .nan\n", "my.yaml:2:3: model.dropout: expected a finite number"),
        (
            "model:\n  dropout: '0.5'\n",
            "my.yaml:2:3: model.dropout: expected a number or a section",
        ),
        ("model: &a\n  num_layers: 2\ntraining: *a\n", "aliases"),
        ("model: !!python/object:os.system {}\n", "not supported"),
        ("training:\n  seed: " + "9" * 5000, "is not a valid value"),
        ("? [a]\n: 1\n", "a key must be a string"),
        ("model: !!map x\n", "my.yaml:1:8: 'x' is not a valid value"),
        ("model: !!int x\n", "my.yaml:1:8: 'x' is not a valid value"),
        ("[" * 5000, "my.yaml: nested too deeply"),
        ("model: \x00\n", "not valid YAML"),
    ],
    ids=range(15),
)
def test_bad_documents_are_located(tmp_path: Path, text: str, message: str) -> None:
    assert message in problems(tmp_path / "my.yaml", text)[0]


def test_unreadable_and_missing_files(tmp_path: Path) -> None:
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
    assert config.model.dropout == DropoutConfig.everywhere(0.1)


@pytest.mark.parametrize("text", ["", "model", "=3", "model.=3", ".x=1", "model.num_layers.x=1"])
def test_bad_override_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        load_config("small", [text])


def test_cosine_final_rate_is_bounded(tmp_path: Path) -> None:
    text = "training:\n  schedule:\n    type: cosine\n    final_learning_rate: 2\n"
    (line,) = problems(tmp_path / "my.yaml", text)
    assert line.startswith("my.yaml:4:5: training.schedule.final_learning_rate: must be at most")


def test_empty_file_is_the_small_config(tmp_path: Path) -> None:
    assert load_config(write(tmp_path / "my.yaml", "# nothing\n")) == load_config("small")


@pytest.mark.parametrize("name", TUTORIAL)
def test_shown_config_loads_as_itself(tmp_path: Path, name: str) -> None:
    config = load_config(name)
    assert load_config(write(tmp_path / "my.yaml", config_document(config))) == config


@pytest.mark.parametrize(
    "path",
    [
        *("no", "1e-3", "a # b", "a: b", "'", '"', "- x", "null", "ünï", "x\ty", " x ", "~", "{"),
        *("a\x1bb", "a\x9b", "a\x7f", "a\u202eb", "a\u2028b", "a\nb", "a\x85b", "\ufeffa"),
    ],
)
def test_any_text_is_shown_and_loaded(tmp_path: Path, path: str) -> None:
    config = Config.model_validate({"data": {"path": path}})
    assert all(line.isprintable() for line in config_document(config).split("\n"))
    assert load_config(write(tmp_path / "my.yaml", config_document(config))) == config


def test_only_texts_and_vocabularies_have_a_path(tmp_path: Path) -> None:
    """A config cannot name a file to write to."""
    keys = [
        f"{section}.{key}"
        for section, values in Config().model_dump().items()
        for key, value in values.items()
        if not isinstance(value, dict)
    ]
    accepted = set()
    for key in [
        *keys,
        *(f"data.vocabulary.{key}" for key in Config().data.vocabulary.model_dump()),
    ]:
        with contextlib.suppress(ConfigError):
            load_config("small", [f"{key}={tmp_path}"])
            accepted.add(key)
    assert accepted == {"data.path", "data.vocabulary.file", "data.vocabulary.unk"}  # unk is a word


def test_configs_are_frozen() -> None:
    config = load_config("small")
    with pytest.raises(ValueError, match="frozen"):
        config.model.num_layers = 3
    assert override_config(config, ["model.num_layers=3"]).model.num_layers == 3
    assert config.model.num_layers == 2


@pytest.mark.parametrize(
    "cell", ["LSTM", "lstm2", "module.Class", ":Cell", "module:", "a b:C", "1:C"]
)
def test_invalid_cell_name_is_an_error(cell: str) -> None:
    with pytest.raises(ConfigError, match=r"expected lstm, rnn, gru.* or my_module:MyCell"):
        load_config("small", [f"model.cell='{cell}'"])


def test_key_of_a_section_in_a_section_can_be_set() -> None:
    config = load_config("small", ["training.early_stopping.patience=3"])
    assert config.training.early_stopping.patience == 3
    document = config_document(config)
    assert "  early_stopping:\n    # epochs without a better valid perplexity" in document
    assert validate(parse_yaml(document, "shown.yaml")) == config
    with pytest.raises(ConfigError, match="unknown key, did you mean 'patience'"):
        load_config("small", ["training.early_stopping.patiense=3"])
