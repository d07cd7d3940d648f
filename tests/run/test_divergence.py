"""Diverged runs: good checkpoints stay, and a lower learning rate is accepted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.errors import ConfigError, DivergedError
from tests.conftest import plain_environment
from tests.run.helpers import contents, last_checkpoint, metrics, resume

LOWER_RATE = ["training.epochs=2", "training.learning_rate=0.1"]


def test_weights_that_are_not_finite_are_never_saved(run: Path) -> None:
    """A step reads only the rows of its words, so its loss is finite although a weight is not."""
    last = last_checkpoint(run)
    checkpoint = load_checkpoint(last)
    rare = len(checkpoint.vocabulary["tokens"]) - 1
    embedding = next(weights for name, weights in checkpoint.model.items() if "embedding" in name)
    embedding[rare, 0] = float("nan")
    save_checkpoint(last, checkpoint)
    before = contents(last.parent)
    with pytest.raises(DivergedError, match="training diverged") as caught:
        resume(run, "training.epochs=2", "run.checkpoint_every=1 steps", "run.log_every=1")
    assert caught.value.exit_code == 5
    assert contents(last.parent) == before
    step = metrics(run)[-1]
    assert (step["kind"], step["step"]) == ("step", 40)  # the step itself was good
    assert json.loads((run / "diverged.json").read_text()).keys() >= {"nll", "grad_norm", "step"}


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
