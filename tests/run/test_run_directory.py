"""The run directory: `--resume auto`, concurrent processes, and rules for reusing it."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptblm.checkpoint.format import load_checkpoint
from ptblm.errors import ConfigError, DataError, UsageError
from ptblm.run import train as train_module
from ptblm.run.directory import check_available, clear
from ptblm.run.lock import lock_run_dir
from ptblm.run.setup import RunComponents, setup_run
from ptblm.run.train import train
from tests.conftest import REPOSITORY, Ptblm, plain_environment
from tests.run.helpers import (
    contents,
    copy_run,
    last_checkpoint,
    options,
    start,
    tiny,
    tiny_config,
    wait_for,
)


def test_resume_auto_starts_or_resumes(in_directory: Path, ptblm: Ptblm) -> None:
    arguments = ["train", *options(tiny()), "--resume", "auto"]
    first = ptblm(*arguments)
    assert first.returncode == 0, first.stderr
    assert "resumed" not in first.stderr
    assert "runs/small-sample" in first.stderr
    again = ptblm(*arguments, "--set", "run.log_every=7")
    assert again.returncode == 0, again.stderr
    assert "resumed     after epoch 1" in again.stderr
    with pytest.raises(ConfigError, match=r"training\.seed: is 77, but the run has 0"):
        train(tiny_config("training.seed=77"), name="small-sample", resume="auto")
    assert [path.name for path in (in_directory / "runs").iterdir()] == ["small-sample"]


def test_concurrent_resume_auto_starts_only_one_run(
    run: Path, ptblm: Ptblm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process starts while the first one, which found no checkpoint, is set up."""
    for path in (run / "checkpoints").iterdir():
        path.unlink()
    for name in ("result.json", "metrics.jsonl"):
        (run / name).unlink()  # as in a run that was killed before its first checkpoint
    others = []

    def setup_slowly(*args: Any, **keywords: Any) -> RunComponents:
        others.append(ptblm("train", *options(tiny()), "--resume", "auto", "--run-dir", run))
        return setup_run(*args, **keywords)

    monkeypatch.setattr(train_module, "setup_run", setup_slowly)
    train(tiny_config(), run, resume="auto", command=["ptblm", "first"])
    (other,) = others
    assert other.returncode == 2
    assert "the run directory is in use by" in other.stderr
    assert json.loads((run / "environment.json").read_text())["command"] == ["ptblm", "first"]
    assert load_checkpoint(last_checkpoint(run)).trained() == (1, 39)


def test_failed_start_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        train(tiny_config("data.path=nowhere"), tmp_path / "run", resume="auto")
    assert not (tmp_path / "run").exists()


def test_foreign_files_are_never_deleted(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"contains thesis\.tex") as caught:
        train(tiny_config(), tmp_path, resume="auto")
    assert caught.value.exit_code == 2
    assert contents(tmp_path) == {"thesis.tex": b"years of work"}


def test_locked_directory_is_in_use(run: Path) -> None:
    with lock_run_dir(run), pytest.raises(UsageError, match="in use by"):
        train(tiny_config(), run, resume="auto")


def test_replaced_directory_is_not_written_to(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    long = options(tiny("training.epochs=200"))
    process = start("train", *long, "--run-dir", "run", cwd=tmp_path)
    wait_for(directory / "metrics.jsonl")
    directory.rename(tmp_path / "moved")
    train(tiny_config("training.seed=9"), directory)
    before = contents(directory)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "the run directory was moved during the run" in errors
    assert contents(directory) == before
    assert load_checkpoint(last_checkpoint(directory)).config["training"]["seed"] == 9


# Deletes a run and kills its own process after a number of deletions.
CLEAR = """
import os, pathlib, signal, sys
from ptblm.run.directory import RunDirectory, clear
left = [int(sys.argv[2])]
def counted(remove):
    def wrapped(*arguments, **options):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        remove(*arguments, **options)
    return wrapped
pathlib.Path.unlink = counted(pathlib.Path.unlink)
pathlib.Path.rmdir = counted(pathlib.Path.rmdir)
clear(RunDirectory(pathlib.Path(sys.argv[1])))
"""


def test_killed_deletion_can_be_repeated(run: Path, tmp_path: Path) -> None:
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.1").write_text("")
    removals = 8
    for done in range(removals + 1):
        (tmp_path / str(done)).mkdir()
        copy = copy_run(run, tmp_path / str(done))
        command = [sys.executable, "-c", CLEAR, str(copy), str(done)]
        killed = subprocess.run(command, env={**plain_environment(), "PYTHONPATH": str(REPOSITORY)})
        assert killed.returncode == (-signal.SIGKILL if done < removals else 0)
        with lock_run_dir(copy) as directory:
            check_available(copy, delete_with="--overwrite")
            clear(directory)
            assert sorted(path.name for path in copy.iterdir()) == ["checkpoints", "lock"]
            assert directory.all_checkpoints() == []
