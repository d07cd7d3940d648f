"""Diverged runs: good checkpoints stay, and a lower learning rate is accepted."""

import json
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config, override_config
from ptblm.errors import ConfigError, DivergedError
from ptblm.json_files import write_json
from ptblm.paths import shell_join
from ptblm.run import load_model, verify
from ptblm.run.directory import RunDirectory
from ptblm.run.hints import diverged_command, restart_command
from tests.conftest import plain_environment
from tests.in_process import ptblm
from tests.run.helpers import contents, last_checkpoint, metrics, options, resume, tiny

LOWER_RATE = ["training.epochs=2", "training.learning_rate=0.1"]


def test_weights_that_are_not_finite_are_never_saved(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step reads only the rows of its words, so its loss is finite although a weight is not."""
    last = last_checkpoint(run)
    checkpoint = load_checkpoint(last)
    rare = len(checkpoint.vocabulary["tokens"]) - 1
    embedding = next(weights for name, weights in checkpoint.model.items() if "embedding" in name)
    embedding[rare, 0] = float("nan")
    changes = ["training.epochs=2", "run.checkpoint_every=1 steps", "run.log_every=1"]
    config = override_config(checkpoint.parsed_config(), changes)
    save_checkpoint(last, replace(checkpoint, config=config.model_dump()))
    before = contents(last.parent)
    for module in (load_model, verify):  # NaN after loading
        monkeypatch.setattr(module, "check_finite_tensors", lambda *_: None)
    with pytest.raises(DivergedError, match="training diverged") as caught:
        resume(run)
    assert caught.value.exit_code == 5
    assert contents(last.parent) == before
    step = metrics(run)[-1]
    assert (step["kind"], step["step"]) == ("step", 40)  # the step itself was good
    assert json.loads((run / "diverged.json").read_text()).keys() >= {"nll", "grad_norm", "step"}


WILD = ["training.learning_rate=1e30", "training.max_grad_norm=1e30"]


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ([], "training.learning_rate=0.5"),
        (["training.learning_rate=20.0"], "training.learning_rate=1"),
        (WILD, "training.learning_rate=1 --set training.max_grad_norm=5"),
        (
            ["training.optimizer=adam", "training.learning_rate=0.001"],
            "training.learning_rate=0.0005",
        ),
        (["training.optimizer=adam"], "training.learning_rate=0.001"),
        (
            ["training.schedule={type: cosine, final_learning_rate: 0.8}"],
            "training.learning_rate=0.5 --set training.schedule.final_learning_rate=0.05",
        ),
    ],
)
def test_hint_has_a_lower_rate(run: Path, settings: list[str], changes: str) -> None:
    command = diverged_command(RunDirectory(run), load_config("small", settings))
    assert command == f"ptblm train --resume {run} --set {changes}"


@pytest.mark.usefixtures("in_directory")
def test_divergence_before_a_checkpoint_is_restarted_by_its_hint() -> None:
    wild = options(tiny(*WILD, "run.checkpoint_every=1000 steps"))
    code, errors, _ = ptblm("train", *wild, "--set=training.seed=3", "--run-dir=my run")
    assert code == 5
    hint = errors.splitlines()[-1].partition("learning rate: ")[2]
    for attempt in (["--resume", "my run"], ["--resume", "auto", "--run-dir", "my run"]):
        code, errors, _ = ptblm("train", *attempt)
        assert code == 4
        assert "the run diverged before its first checkpoint" in errors
        assert errors.splitlines()[-1] == f"  hint: delete it and start again: {hint}"
    code, errors, _ = ptblm(*shlex.split(hint)[1:])
    assert code == 0, errors
    config = load_config("my run/config.yaml")
    assert (config.training.learning_rate, config.training.seed) == (1.0, 3)


@pytest.mark.parametrize(
    "cell",
    [
        ["--cell", "my_cells:Cell"],
        ["--cell=gru"],
        ["--set", "model.cell=my_cells:Cell"],
        ["--set", 'model.cell.type="my_cells\\x3aCell"'],
    ],
)
def test_suggested_command_agrees_to_no_code(cell: list[str], tmp_path: Path) -> None:
    """A run directory from a stranger can name any command; config.yaml has the same cell."""
    directory = RunDirectory(tmp_path)
    write_json(directory.environment, {"command": ["ptblm", "train", *cell, "--seed", "3"]})
    command = ["ptblm", "train", "--config", str(directory.config), "--run-dir", str(tmp_path)]
    assert restart_command(directory) == shell_join([*command, "--overwrite"])


def test_diverged_run_resumes_with_a_lower_rate(run: Path) -> None:
    with pytest.raises(ConfigError):
        resume(run, *LOWER_RATE)
    (run / "diverged.json").write_text("{}")
    resume(run, *LOWER_RATE)
    assert not (run / "diverged.json").exists()
    epoch, test = metrics(run)[-2:]
    assert (epoch["kind"], test["kind"]) == ("epoch", "test")
    assert epoch["learning_rate"] == 0.1
    with pytest.raises(ConfigError):
        resume(run, "training.learning_rate=0.05")


# Resumes a run and kills its own process just after diverged.json was deleted.
KILLED_RESUME = """
import os, signal, sys
from ptblm.cli import main
from ptblm.run import train
train.record_resumption = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
main()
"""


def test_changed_rate_survives_a_kill_during_resume(run: Path) -> None:
    (run / "diverged.json").write_text("{}")
    arguments = ["train", "--resume", str(run)]
    arguments += [word for override in LOWER_RATE for word in ("--set", override)]
    command = [sys.executable, "-c", KILLED_RESUME, *arguments]
    assert subprocess.run(command, env=plain_environment()).returncode == -signal.SIGKILL
    assert not (run / "diverged.json").exists()
    for overrides in (LOWER_RATE, []):
        resume(run, *overrides)
    epoch = metrics(run)[-2]
    assert (epoch["epoch"], epoch["learning_rate"]) == (2, 0.1)
