"""`--init`: a new run from the weights and the vocabulary of another run."""

import json
import shutil
import signal
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import ConfigError
from ptblm.run.initial import load_initial_model
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint, metrics, options, start, tiny, wait_for
from tests.run.test_output_options import CELL

# The vocabulary of the sample corpus lacks "zebra".
NEW_TEXT = "the boat sails\nthe cook sails the zebra\n" * 300
UNCHANGED = ["--set", "training.learning_rate=1e-9"]


def succeed(*arguments: object) -> str:
    """Runs a command that must succeed; returns its standard error."""
    code, errors, _ = ptblm(*arguments)
    assert code == 0, errors
    return errors


def result(run: Path) -> dict[str, float]:
    loaded: dict[str, float] = json.loads((run / "result.json").read_text())
    return loaded


def tokens(run: Path) -> list[str]:
    return list(load_checkpoint(last_checkpoint(run)).vocabulary["tokens"])


def test_new_run_begins_with_the_model_of_the_checkpoint(finished: Path, tmp_path: Path) -> None:
    errors = succeed("train", "--init", finished, "--run-dir", tmp_path / "run", *UNCHANGED)
    last = last_checkpoint(finished)
    assert f"\n  weights     initially those of {last}, epoch 1\n" in errors
    before, after = result(finished), result(tmp_path / "run")
    for split in ("valid_perplexity", "test_perplexity"):
        assert after[split] == pytest.approx(before[split], rel=1e-6)
    trained = load_checkpoint(last_checkpoint(tmp_path / "run"))
    source = load_checkpoint(last)
    assert trained.vocabulary == source.vocabulary
    assert trained.trained() == (1, 39)
    config = load_config(str(tmp_path / "run" / "config.yaml"))
    assert config.data.vocabulary.file == str(last)
    assert config.training.learning_rate == 1e-9
    assert config.model == source.parsed_config().model
    _, _, output = ptblm("eval", tmp_path / "run", "--json")
    assert json.loads(output)["perplexity"] == pytest.approx(before["test_perplexity"], rel=1e-6)


@pytest.mark.usefixtures("in_directory")
def test_new_text_is_read_with_the_vocabulary_of_the_checkpoint(finished: Path) -> None:
    Path("new.txt").write_text(NEW_TEXT)
    command = ["train", "--init", last_checkpoint(finished), "--data", "new.txt"]
    command += options(["training.batch_size=5"])
    errors = succeed(*command)
    assert "words of valid become <unk>" in errors
    assert "words of train become <unk>" in errors
    run = Path("runs/run-new")
    assert tokens(run) == tokens(finished)
    assert result(run)["test_perplexity"] < 20
    code, _, output = ptblm(*command, "--dry-run")
    assert code == 0
    assert "total steps" in output


def test_model_that_does_not_fit_is_one_error(finished: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_initial_model(finished, "small", ["model.num_layers=1"], {"data.tokenizer": "char"})
    assert caught.value.what.splitlines() == [
        "data.tokenizer: is 'char', but the checkpoint has 'word'",
        "model.hidden_size: is 200, but the checkpoint has 4",
        "model.num_layers: is 1, but the checkpoint has 2",
    ]
    fitting = ["model.hidden_size=4", "model.embedding_size=4", "model.dropout=0.5"]
    assert load_initial_model(finished, "medium", fitting).config.training.epochs == 39


@pytest.mark.parametrize(
    ("trained", "changed"),
    [
        (["model.head=mixture", "model.head.components=2"], "model.head.dropout=0.5"),
        (["model.cell=sru"], "model.cell.highway_bias=-1.0"),
        (["model.cell=lstm"], "model.cell.chrono_steps=20"),
        (["model.cell=janet"], "model.cell.chrono_steps=20"),
        ([], "model.layer_sizes=[4,4]"),
    ],
)
def test_options_without_effect_on_weights_may_differ(
    trained: list[str], changed: str, in_directory: Path
) -> None:
    """Also, the new run starts with the valid perplexity of the old one."""
    source = ["train", *options(tiny(*trained)), "--run-dir", "a"]
    succeed(*source)
    succeed("train", "--init", "a", "--set", changed, "--run-dir", "b", *UNCHANGED)
    perplexities = [result(Path(run))["valid_perplexity"] for run in ("a", "b")]
    assert perplexities[1] == pytest.approx(perplexities[0], rel=1e-6)


@pytest.mark.parametrize("changed", ["model.cell.forget_bias=1.0", "model.layer_sizes=[4,3]"])
def test_options_with_an_effect_may_not_differ(changed: str, finished: Path) -> None:
    with pytest.raises(ConfigError, match=changed.partition("=")[0]):
        load_initial_model(finished, None, [changed])


def test_options_of_a_custom_cell_may_not_differ(in_directory: Path) -> None:
    """Only the cell knows what they change, whatever their names."""
    first, second = "hidden_size):", "hidden_size, highway_bias=0.0):"
    Path("optional_cell.py").write_text(CELL.replace(first, second, 1))
    cell = options(tiny("model.cell=optional_cell:Narrow"))
    succeed("train", *cell, "--run-dir", "a")
    other = ["model.cell.highway_bias=1.0"]
    code, errors, _ = ptblm("train", "--init", "a", *options(other), "--run-dir", "b")
    assert code == 2
    assert "model.cell.highway_bias: is 1.0, but the checkpoint has" in errors


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--resume", "x"], 2, "omit --config, --run-dir, --overwrite, --init and --dry-run"),
        (["--set", "data.vocabulary.min_count=2"], 2, "min_count: cannot be combined with --init"),
        (["--set", "data.vocabulary.file=x"], 2, "file: cannot be combined with --init"),
        (["--tokenizer", "char"], 2, "data.tokenizer: is 'char', but the checkpoint has 'word'"),
    ],
)
def test_what_cannot_be_combined(
    finished: Path, arguments: list[str], code: int, message: str
) -> None:
    returned, errors, _ = ptblm("train", "--init", finished, *arguments)
    assert returned == code
    assert message in errors


def test_run_resumes_without_its_source(finished: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(finished, tmp_path / "source"))
    run = tmp_path / "run"
    command = ["train", "--init", source, "--run-dir", run, "--resume", "auto"]
    command += options(["training.epochs=4", "run.checkpoint_every=10 steps"])
    process = start(*command, cwd=tmp_path)
    wait_for(last_checkpoint(run))
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    shutil.rmtree(source)
    few = ["--set", "training.epochs=5"]
    stopped = load_checkpoint(last_checkpoint(run)).trained()[1]
    for resumed in (command, ["train", "--resume", run, *few]):
        errors = succeed(*resumed)
        assert "resumed     after epoch" in errors
        assert "initial weights" not in errors
    assert metrics(run)[-2]["epoch"] == 5
    assert load_checkpoint(last_checkpoint(run)).trained()[1] > stopped


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_characters_and_bytes(tokenizer: str, tmp_path: Path) -> None:
    tiny = options(["model.hidden_size=4", "model.num_layers=1", "training.batch_size=200"])
    text = tmp_path / "text.txt"
    text.write_text(NEW_TEXT)
    few = ["--set", "training.epochs=1"]
    source = ["train", "--data", text, "--tokenizer", tokenizer, *tiny, *few]
    succeed(*source, "--run-dir", tmp_path / "a")
    text.write_text(NEW_TEXT.replace("z", "ñ"))
    succeed("train", "--init", tmp_path / "a", "--run-dir", tmp_path / "b")
    assert tokens(tmp_path / "a") == tokens(tmp_path / "b")
