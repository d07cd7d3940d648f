"""What must not destroy a run: signals at any time, damaged files, divergence, long use."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ptblm.checkpoint.format import (
    FORMAT,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from ptblm.errors import CheckpointError
from ptblm.run.saving import CheckpointInterval, save_or_fail, save_or_warn
from tests.conftest import REPOSITORY, Ptblm, load_script, plain_environment
from tests.run.test_resume import heed_signals

FAST = ["--data", "sample", "--set", "model.hidden_size=8", "--set", "training.epochs=2"]


@pytest.fixture(scope="module")
def fault_injection() -> ModuleType:
    return load_script("fault_injection")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, fault_injection: ModuleType) -> Path:
    """A whole run of one epoch, made by fault_injection."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in plain_environment().items():
            patch.setenv(name, value)
        fault_injection.finish(fault_injection.train(directory, epochs=1))
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to do harm to."""
    subprocess.run(["cp", "-r", str(finished), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


# --- short versions of `make fault-injection` ---


def test_kills_while_training(
    fault_injection: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert "equal those without kills" in fault_injection.kill_while_training(
        tmp_path, 3, random.Random(1)
    )


def test_kills_at_the_start(
    fault_injection: ModuleType, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert "equal those without kills" in fault_injection.kill_new_runs(
        tmp_path, finished, 3, random.Random(1)
    )


def test_kills_while_saving(fault_injection: ModuleType, tmp_path: Path, finished: Path) -> None:
    checkpoint = load_checkpoint(finished / "checkpoints" / "last.safetensors")
    told = fault_injection.kill_while_saving(tmp_path, checkpoint, 20, random.Random(1))
    assert "always" in told


def test_bit_flips_and_cuts(fault_injection: ModuleType, tmp_path: Path, finished: Path) -> None:
    last = finished / "checkpoints" / "last.safetensors"
    assert "300 bits" in fault_injection.flip_bits(tmp_path, last, 300, random.Random(1))
    assert "all rejected" in fault_injection.truncate(tmp_path, last, 50)


# --- signals ---


def start(*arguments: object, cwd: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "ptblm", *map(str, arguments)],
        cwd=cwd,
        env=plain_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    # Steps of seconds: the first signal can't be heeded before the second comes.
    slow = ["--set", "model.hidden_size=1200", "--set", "training.batch_size=200"]
    process = start("train", "--data", "sample", *slow, "--run-dir", "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    time.sleep(0.5)
    process.send_signal(number)
    assert process.stderr is not None
    for line in process.stderr:
        if "again ends at once" in line:
            break
    before = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert time.monotonic() - before < 2  # a step takes longer


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_evaluation_ends_with_the_signals_code(
    number: signal.Signals, code: int, tmp_path: Path, finished: Path
) -> None:
    process = start("eval", finished, "--text", "-", cwd=tmp_path)  # waits for its text
    assert process.stdin is not None
    process.stdin.write("the boat sails\n" * 20_000)  # more than a pipe holds: it is reading
    process.stdin.flush()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in errors


def test_validation_and_test_are_stopped_and_resumed_too(tmp_path: Path, ptblm: Ptblm) -> None:
    """Hours of training must not be lost in the minutes of an evaluation."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    sample = REPOSITORY / "data" / "sample"
    (directory / "train.txt").write_bytes((sample / "valid.txt").read_bytes())
    (directory / "valid.txt").write_bytes((sample / "train.txt").read_bytes() * 40)
    (directory / "test.txt").write_bytes((sample / "valid.txt").read_bytes())
    (directory / "train.txt").write_bytes((sample / "train.txt").read_bytes()[:60_000] + b"\n")
    settings = ["--set", "model.hidden_size=100", "--set", "training.epochs=1"]
    settings += ["--set", "run.log_every=1"]
    process = start("train", "--data", directory, *settings, "--run-dir", "run", cwd=tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(metrics)
    steps = (11_967 // 20 - 1) // 20
    while metrics.read_bytes().count(b"\n") < steps:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # all steps are done: this is validation
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    position = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").train_state
    assert (position["epoch"], position["batch"]) == (0, steps)
    resumed = ptblm("train", "--resume", tmp_path / "run")
    assert resumed.returncode == 0, resumed.stderr


def test_a_signal_that_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ptblm", "train", *FAST, "--run-dir", "run"],
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
def test_a_signal_saves_though_nobody_reads_stderr(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C ends `tee` too; a terminal that is closed takes stderr along."""
    process = start(
        "train", *FAST[:-2], "--set", "training.epochs=50", "--run-dir", "run", cwd=tmp_path
    )
    wait_for(tmp_path / "run" / "metrics.jsonl")
    assert process.stderr is not None
    process.stderr.close()
    time.sleep(0.3)
    process.send_signal(number)
    assert process.wait(timeout=60) == 128 + number
    for stream in (process.stdin, process.stdout):
        assert stream is not None
        stream.close()
    load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")


# --- files ---


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_bad_last_falls_back_to_the_newest_good_one(run: Path, ptblm: Ptblm) -> None:
    last, best = run / "checkpoints" / "last.safetensors", run / "checkpoints" / "best.safetensors"
    save_checkpoint(run / "checkpoints" / "step-000000099.safetensors", load_checkpoint(best))
    older = load_checkpoint(best)
    older.train_state["step"] = 1
    save_checkpoint(best, older)
    damage(last)
    verified = ptblm("checkpoint", "verify", run)
    assert verified.returncode == 4
    lines = {line.split(": ")[0]: line.split(": ")[1][:4] for line in verified.stdout.splitlines()}
    assert lines == {
        str(best): "good",
        str(last): "bad,",
        str(run / "checkpoints" / "step-000000099.safetensors"): "good",
    }
    result = ptblm("train", "--resume", run)
    assert result.returncode == 0, result.stderr
    assert f"warning: {last} can't be used (damaged" in result.stderr
    assert "going on from" in result.stderr
    assert "step-000000099.safetensors" in result.stderr
    assert ptblm("checkpoint", "verify", run / "checkpoints" / "last.safetensors").returncode == 0


def test_a_damaged_last_is_put_aside(run: Path, ptblm: Ptblm) -> None:
    last = run / "checkpoints" / "last.safetensors"
    damage(last)
    damaged = last.read_bytes()
    assert ptblm("train", "--resume", run).returncode == 0
    assert last.with_name("last.safetensors.bad").read_bytes() == damaged


def test_a_last_of_a_newer_format_is_not_damaged(run: Path, ptblm: Ptblm) -> None:
    """An older ptblm must not go back to an old checkpoint, and write over the newer one."""
    last = run / "checkpoints" / "last.safetensors"
    save_checkpoint(last, dataclasses.replace(load_checkpoint(last), format=FORMAT + 1))
    before = last.read_bytes()
    result = ptblm("train", "--resume", run)
    assert result.returncode == 4
    assert f"its format is {FORMAT + 1}" in result.stderr
    assert last.read_bytes() == before


def test_figures_without_checkpoints_are_not_started_over(run: Path, ptblm: Ptblm) -> None:
    shutil.rmtree(run / "checkpoints")
    before = (run / "metrics.jsonl").read_bytes()
    result = ptblm("train", *FAST, "--resume", "auto", "--run-dir", run)
    assert result.returncode == 4
    assert "a run with figures, but without checkpoints" in result.stderr
    assert (run / "metrics.jsonl").read_bytes() == before


def test_metrics_that_were_cut_are_mended_and_told(run: Path, ptblm: Ptblm) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:500])
    result = ptblm("train", "--resume", run, "--set", "training.epochs=2")
    assert result.returncode == 0, result.stderr
    assert "bytes that the checkpoint knew of" in result.stderr
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_links_are_not_followed(run: Path, ptblm: Ptblm, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("lock", "metrics.jsonl"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(victim)
        result = ptblm("train", "--resume", run)
        assert result.returncode == 2, result.stderr
        assert "can't write" in result.stderr
        (run / name).unlink()
    assert victim.read_text() == "precious"


def test_a_directory_that_was_replaced_is_not_written_into(tmp_path: Path, ptblm: Ptblm) -> None:
    process = start(
        "train", *FAST[:-2], "--set", "training.epochs=50", "--run-dir", "run", cwd=tmp_path
    )
    wait_for(tmp_path / "run" / "metrics.jsonl")
    (tmp_path / "run").rename(tmp_path / "moved")
    assert ptblm("train", *FAST, "--run-dir", "run", "--seed", "9").returncode == 0
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "was moved or replaced" in errors
    assert "seed: 9" in (tmp_path / "run" / "config.yaml").read_text()
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert checkpoint.config["training"]["seed"] == 9


def test_fewer_epochs_than_were_begun_are_refused(tmp_path: Path, ptblm: Ptblm) -> None:
    process = start(
        "train", *FAST[:-2], "--set", "training.epochs=50", "--run-dir", "run", cwd=tmp_path
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    wait_for(metrics)
    while b'"kind": "epoch"' not in metrics.read_bytes():
        time.sleep(0.01)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    result = ptblm("train", "--resume", "run", "--set", "training.epochs=1")
    position = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors").train_state
    if position["epoch"] > 1 or position["batch"] > 0:
        assert result.returncode == 2
        assert "in epoch" in result.stderr


def _full() -> Checkpoint:
    raise OSError(28, "No space left on device")


def test_with_no_good_checkpoint_nothing_is_started_or_written(run: Path, ptblm: Ptblm) -> None:
    for path in (run / "checkpoints").iterdir():
        damage(path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for resume in (["--resume", run], [*FAST, "--resume", "auto", "--run-dir", run]):
        result = ptblm("train", *resume)
        assert result.returncode == 4
        assert "fails its checksum" in result.stderr
        assert "verify" in result.stderr
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_resume_auto_starts_or_goes_on(tmp_path: Path, ptblm: Ptblm) -> None:
    arguments = ["train", *FAST, "--resume", "auto"]
    first = ptblm(*arguments)
    assert first.returncode == 0, first.stderr
    assert "resumed" not in first.stderr
    assert "runs/small-sample" in first.stderr
    again = ptblm(*arguments, "--set", "run.log_every=7")
    assert again.returncode == 0, again.stderr
    assert "resumed     after epoch 2" in again.stderr
    other = ptblm(*arguments, "--seed", "77")
    assert other.returncode == 2
    assert "training.seed: 0 in the run, 77 now" in other.stderr
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["small-sample"]


def test_numbered_checkpoints_are_kept_as_asked(tmp_path: Path, ptblm: Ptblm) -> None:
    keep = ["--set", "run.keep_checkpoints=2", "--set", "run.checkpoint_every=30 steps"]
    assert ptblm("train", *FAST, *keep, "--run-dir", "run").returncode == 0
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [
        "best.safetensors",
        "last.safetensors",
        "step-000000189.safetensors",
        "step-000000198.safetensors",
    ]
    for name in kept[2:]:
        path = tmp_path / "run" / "checkpoints" / name
        assert load_checkpoint(path).trained()[1] == int(name[5:14])


def test_a_diverged_run_resumes_with_a_lower_rate(run: Path, ptblm: Ptblm) -> None:
    (run / "diverged.json").write_text("{}")
    more = ["--set", "training.epochs=2", "--set", "training.learning_rate=0.1"]
    result = ptblm("train", "--resume", run, *more)
    assert result.returncode == 0, result.stderr
    assert not (run / "diverged.json").exists()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "test"
    assert lines[-2]["learning_rate"] == 0.1
    refused = ptblm("train", "--resume", run, "--set", "training.learning_rate=0.05")
    assert refused.returncode == 2


def test_show_says_what_a_checkpoint_holds(run: Path, ptblm: Ptblm) -> None:
    shown = ptblm("checkpoint", "show", run)
    assert shown.returncode == 0
    for part in (
        f"format {FORMAT}",
        "1 epochs, 799 steps",
        "247 words",
        "sample",
        f"torch {torch.__version__}",
    ):
        assert part in shown.stdout


def test_a_read_only_directory_is_a_clear_line(run: Path, ptblm: Ptblm) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    run.chmod(0o500)
    result = ptblm("train", "--resume", run)
    run.chmod(0o700)
    assert result.returncode == 2
    assert "can't write" in result.stderr


def test_a_failed_save_warns_in_the_middle_and_fails_at_the_end(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last = run / "checkpoints" / "last.safetensors"
    before = last.read_bytes()

    assert not save_or_warn(last, _full)
    assert "was not saved" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="No space left") as caught:
        save_or_fail(last, _full)
    assert "the one before is intact" in str(caught.value)
    assert last.read_bytes() == before
    with pytest.raises(CheckpointError) as caught:
        save_or_fail(run / "checkpoints" / "none.safetensors", _full)
    assert "there is none before it" in str(caught.value)


def test_when_a_checkpoint_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    by_steps = CheckpointInterval("200 steps", step=50)
    assert [step for step in (51, 249, 250, 300) if by_steps.is_due(step)] == [250, 300]
    by_steps.restart(300)
    assert not by_steps.is_due(499)
    now = time.monotonic()
    by_minutes = CheckpointInterval("5 minutes", step=0)
    assert not by_minutes.is_due(10**6)
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert by_minutes.is_due(1)
