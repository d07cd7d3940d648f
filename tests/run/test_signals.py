"""Stop signals: during training, validation and evaluation, twice, ignored, or without stderr."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ptblm.backend.matmul import use_matmul_backend
from ptblm.checkpoint.format import load_checkpoint
from ptblm.run.setup import RunComponents, setup_run
from ptblm.run.train import train
from tests.conftest import REPOSITORY, Ptblm, plain_environment
from tests.run.helpers import (
    assert_same_end,
    last_checkpoint,
    options,
    resume,
    start,
    tiny,
    tiny_config,
    wait_for,
)

SMALL = ["train", *options(["data.path=sample", "model.hidden_size=8"]), "--run-dir", "run"]
LONG = [*SMALL, "--set", "training.epochs=50"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_stops_at_once(number: signal.Signals, tmp_path: Path) -> None:
    # A step takes seconds, so it is still running when the second signal arrives.
    slow = options(["model.hidden_size=1200", "training.batch_size=200"])
    process = start("train", "--data", "sample", *slow, "--run-dir", "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    time.sleep(0.5)
    process.send_signal(number)
    assert process.stderr is not None
    for line in process.stderr:
        if "again to stop at once" in line:
            break
    before = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert time.monotonic() - before < 2  # less than a step


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signal_stops_evaluation(
    number: signal.Signals, code: int, tmp_path: Path, finished: Path
) -> None:
    process = start("eval", finished, "--text", "-", cwd=tmp_path)
    assert process.stdin is not None
    # More than the buffer of a pipe, so the process is now reading its standard input.
    process.stdin.write("the boat sails\n" * 20_000)
    process.stdin.flush()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors


def test_signal_during_validation_saves_the_epoch(tmp_path: Path) -> None:
    directory = tmp_path / "corpus"
    directory.mkdir()
    sample = REPOSITORY / "data" / "sample"
    text = (sample / "train.txt").read_bytes()
    (directory / "train.txt").write_bytes(text[:60_000] + b"\n")
    (directory / "valid.txt").write_bytes(text * 10)
    (directory / "test.txt").write_bytes((sample / "valid.txt").read_bytes())
    settings = options(["model.hidden_size=100", "training.epochs=1", "run.log_every=1"])
    process = start("train", "--data", directory, *settings, "--run-dir", "run", cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    steps = (11_967 // 20 - 1) // 20
    wait_for(metrics, steps)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)  # all steps of the epoch are done: this is validation
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    state = load_checkpoint(last_checkpoint(tmp_path / "run")).train_state
    assert (state["epoch"], state["batch"]) == (0, steps)
    resume(tmp_path / "run")


def test_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ptblm", *SMALL, "--set", "training.epochs=1"],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None,
    )
    wait_for(tmp_path / "run" / "metrics.jsonl")
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_saves_without_a_reader_of_stderr(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C also stops `tee`, and a terminal that is closed takes stderr with it."""
    process = start(*LONG, cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    assert process.stderr is not None
    process.stderr.close()
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    load_checkpoint(last_checkpoint(tmp_path / "run"))


def test_fewer_epochs_than_started_are_rejected(tmp_path: Path, ptblm: Ptblm) -> None:
    process = start(*LONG, cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(metrics)
    while b'"kind": "epoch"' not in metrics.read_bytes():
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    result = ptblm("train", "--resume", "run", "--set", "training.epochs=1")
    state = load_checkpoint(last_checkpoint(tmp_path / "run")).train_state
    if state["epoch"] > 1 or state["batch"] > 0:
        assert result.returncode == 2
        assert "in epoch" in result.stderr


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of 15 epochs without a signal."""
    directory = tmp_path_factory.mktemp("undisturbed") / "run"
    with use_matmul_backend("default"):
        train(tiny_config("training.epochs=15"), directory)
    return directory


def test_save_signals_save_and_training_continues(undisturbed: Path, tmp_path: Path) -> None:
    numbers = [signal.SIGUSR1, signal.SIGUSR2]
    run = tmp_path / "run"
    process = start("train", *options(tiny("training.epochs=15")), "--run-dir", run, cwd=tmp_path)
    steps: list[int] = []
    wait_for(run / "metrics.jsonl")
    while len(steps) < 4:
        assert process.poll() is None
        process.send_signal(numbers[len(steps) % 2])
        wait_for(last_checkpoint(run))
        step = load_checkpoint(last_checkpoint(run)).trained()[1]
        if not steps or step > steps[-1]:
            steps.append(step)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    for number in numbers:
        assert f"note: {number.name}: saved {last_checkpoint(run)}, step " in errors
    assert any(step % 39 for step in steps)  # not only the checkpoints after epochs of 39 steps
    assert_same_end(run, undisturbed)


def test_save_signal_during_setup_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal is handled after the first step."""
    saved = []
    before = signal.getsignal(signal.SIGUSR2)

    def setup(*args: Any, **keywords: Any) -> RunComponents:
        os.kill(os.getpid(), signal.SIGUSR2)
        return setup_run(*args, **keywords)

    monkeypatch.setattr("ptblm.run.train.setup_run", setup)
    monkeypatch.setattr(
        "ptblm.run.saving.CheckpointSaver.save_requested",
        lambda saver, name: saved.append((saver._step, name)),
    )
    train(tiny_config(), tmp_path / "run")
    assert saved == [(1, "SIGUSR2")]
    assert signal.getsignal(signal.SIGUSR2) is before
