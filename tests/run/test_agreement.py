"""What a checkpoint names is used only if the user typed it or has trained with it."""

import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from ptblm import consent
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.run.agreement import remember_agreement
from ptblm.run.train import train
from tests.conftest import write_small_corpus
from tests.in_process import ptblm
from tests.run.helpers import TINY, last_checkpoint, options, tiny_config

CELL = """
from pathlib import Path
from torch import nn
from ptblm.model.cells.rnn import RNNCell
Path(__file__).with_name("ran").touch()

class Cell2(RNNCell):
    pass
"""
RNN = {"type": "rnn", "activation": "tanh"}
RESUME = ["train", "--resume", "run", "--set", "training.epochs=2"]
INIT = ["train", "--init", "run", "--run-dir", "other"]


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """A directory with a run, as from an archive; its checkpoints name the cell next to it."""
    train(
        tiny_config(
            "model.cell=rnn",
            f"data.path={write_small_corpus(tmp_path / 'text')}",
            "training.batch_size=4",
            "training.num_steps=5",
        ),
        tmp_path / "run",
    )
    change(tmp_path, lambda config: config["model"].update(cell={"type": "helpers:Cell2"}))
    (tmp_path / "helpers.py").write_text(CELL)
    return tmp_path


def run(*arguments: object, cwd: Path) -> SimpleNamespace:
    """Runs a command as in a new process, in which the user has typed nothing yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(consent, "_allowed", set())
        patch.setattr(sys, "path", [*sys.path])
        patch.delitem(sys.modules, "helpers", raising=False)
        code, errors, output = ptblm(*arguments)
        sys.modules.pop("helpers", None)
    return SimpleNamespace(returncode=code, stderr=errors, stdout=output)


def change(directory: Path, edit) -> None:  # type: ignore[no-untyped-def]
    for path in (directory / "run" / "checkpoints").iterdir():
        checkpoint = load_checkpoint(path)
        edit(checkpoint.config)
        save_checkpoint(path, checkpoint)


@pytest.mark.parametrize(
    "command",
    [["eval", "run"], RESUME, INIT],
    ids=lambda words: " ".join(words[:3]),
)
def test_cell_of_a_checkpoint_runs_only_if_it_is_typed(command: list[str], stranger: Path) -> None:
    result = run(*command, cwd=stranger)
    assert result.returncode == 4, result.stderr
    assert f"  at: {stranger / 'helpers.py'}\n" in result.stderr
    assert "pass --cell helpers:Cell2 to run it" in result.stderr
    assert not (stranger / "ran").exists()
    result = run(*command, "--cell", "helpers:Cell2", cwd=stranger)
    assert result.returncode == 0, result.stderr
    assert (stranger / "ran").exists()


@pytest.mark.parametrize("command", ["show", "verify"])
def test_looking_at_a_checkpoint_runs_no_code(command: str, stranger: Path) -> None:
    result = run("checkpoint", command, "run", cwd=stranger)
    assert result.returncode == 0, result.stderr
    assert "helpers:Cell2" in result.stdout
    assert not (stranger / "ran").exists()


def test_cell_of_a_config_file_runs_only_if_it_is_typed(stranger: Path) -> None:
    config = {"model": {"cell": "helpers:Cell2", "hidden_size": 4}, "data": {"path": "text"}}
    (stranger / "my.yaml").write_text(yaml.safe_dump(config))
    command = ["train", "--config", "my.yaml", "--dry-run", "--set", "training.batch_size=4"]
    result = run(*command, cwd=stranger)
    assert result.returncode == 2
    assert "pass --cell helpers:Cell2 to run it" in result.stderr
    assert not (stranger / "ran").exists()
    for typed in (["--cell", "helpers:Cell2"], ["--set", "model.cell=helpers:Cell2"]):
        assert run(*command, *typed, cwd=stranger).returncode == 0


def test_trained_cell_is_remembered_until_its_file_changes(stranger: Path) -> None:
    """The same file in another directory could import other modules, so it is not trusted."""
    assert run(*RESUME, "--cell", "helpers:Cell2", cwd=stranger).returncode == 0
    assert run("eval", "run", cwd=stranger).returncode == 0
    copy = stranger / "copy"
    copy.mkdir()
    shutil.copy(stranger / "helpers.py", copy)
    assert run("eval", stranger / "run", cwd=copy).returncode == 4
    with (stranger / "helpers.py").open("a") as file:
        file.write("# changed\n")
    assert run("eval", "run", cwd=stranger).returncode == 4


def test_another_cell_than_that_of_the_checkpoint(stranger: Path) -> None:
    change(stranger, lambda config: config["model"].update(cell=RNN))
    result = run("eval", "run", "--cell", "helpers:Cell2", cwd=stranger)
    assert (result.returncode, not (stranger / "ran").exists()) == (2, True)
    assert "the checkpoint has rnn" in result.stderr


@pytest.mark.parametrize(
    "command", [["eval", "run"], RESUME, INIT], ids=lambda words: " ".join(words[:2])
)
def test_corpus_of_a_checkpoint_is_read_only_if_it_is_known(
    command: list[str], stranger: Path
) -> None:
    """A named pipe shows whether the path is opened: it would block."""
    change(stranger, lambda config: config["model"].update(cell=RNN))
    assert run(*command, cwd=stranger).returncode == 0  # trained with it
    secret = stranger / "secret"
    shutil.copytree(stranger / "text", secret)
    shutil.rmtree(stranger / "other", ignore_errors=True)
    change(stranger, lambda config: config["data"].update(path=str(secret)))
    result = run(*command, cwd=stranger)
    assert result.returncode == 4, result.stderr
    assert f"a corpus that you have not trained with: {secret}" in result.stderr
    assert f"pass --data {secret} to read it" in result.stderr
    os.unlink(secret / "test.txt")
    os.mkfifo(secret / "test.txt")
    assert run(*command, cwd=stranger).returncode == 4
    shutil.rmtree(secret)
    shutil.copytree(stranger / "text", secret)
    assert run(*command, "--data", secret, cwd=stranger).returncode == 0


def test_records_of_other_users_do_not_count(
    stranger: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither a link nor a file with another name for it is the user's record."""
    change(stranger, lambda config: config["model"].update(cell=RNN))
    state = tmp_path / "state"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert run("eval", "run", cwd=stranger).returncode == 4
    assert not state.exists()
    assert run(*RESUME, "--data", "text", cwd=stranger).returncode == 0
    assert run("eval", "run", cwd=stranger).returncode == 0
    (record,) = (state / "ptblm" / "trained-with").iterdir()
    assert (record.parent.stat().st_mode & 0o777, record.stat().st_nlink) == (0o700, 1)
    os.link(record, tmp_path / "second-name")
    assert run("eval", "run", cwd=stranger).returncode == 4
    record.unlink()
    record.symlink_to(tmp_path / "second-name")
    assert run("eval", "run", cwd=stranger).returncode == 4


def test_pipe_is_not_remembered(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").touch()
    for name, remembered in (("pipe", False), ("text", True)):
        path = str(tmp_path / name)
        remember_agreement(tiny_config(f"data.path={path}"))
        assert consent.is_remembered("corpus", path) == remembered


def test_sample_needs_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert run("train", *options(TINY), "--run-dir", "run", cwd=tmp_path).returncode == 0
    path = last_checkpoint(tmp_path / "run")
    assert run("eval", path, cwd=tmp_path).returncode == 0
    assert not (tmp_path / "state").exists()
