"""Stopping and going on, as a person does it: signals, fresh processes, the run directory."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm.backend import matmul as products_module
from ptblm.backend.matmul import onednn_is_accurate, use_matmul_backend
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config, override_config
from ptblm.errors import ConfigError
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.resume import refuse_changes
from tests.conftest import Ptblm, plain_environment

SETTINGS = ["--set", "model.hidden_size=12", "--set", "model.dropout=0.3", "--seed", "4"]
SETTINGS += ["--set", "training.batch_size=10", "--set", "training.num_steps=5"]
SETTINGS += ["--set", "training.epochs=2", "--set", "training.schedule.full_rate_epochs=1"]
SETTINGS += ["--set", "run.log_every=50"]


def start(directory: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ptblm", "train", "--data", "sample", "--run-dir"]
    return subprocess.Popen(
        [*command, str(directory), *SETTINGS],
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_signals,
    )


def heed_signals() -> None:
    """Undoes what a shell or `nohup` may have told this process, and so its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_steps(directory: Path, records: int) -> None:
    """Until the metrics file has so many lines."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        path = directory / "metrics.jsonl"
        if path.is_file() and path.read_bytes().count(b"\n") >= records:
            return
        time.sleep(0.02)
    raise TimeoutError


def metrics(directory: Path) -> list[dict[str, Any]]:
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]


def final_weights(directory: Path) -> dict[str, torch.Tensor]:
    model: dict[str, torch.Tensor] = load_checkpoint(
        directory / "checkpoints" / "last.safetensors"
    ).model
    return model


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("whole") / "run"
    process = start(directory)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return directory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_run_resumes_to_the_same_weights(
    number: signal.Signals, tmp_path: Path, whole_run: Path, ptblm: Ptblm
) -> None:
    process = start(tmp_path / "run")
    wait_for_steps(tmp_path / "run", 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped: by {number.name}; everything is saved" in errors
    assert f"ptblm train --resume {tmp_path / 'run'}" in errors

    # Moved elsewhere, and from another directory.
    (tmp_path / "run").rename(tmp_path / "moved")
    result = ptblm("train", "--resume", tmp_path / "moved")
    assert result.returncode == 0, result.stderr
    assert "resumed" in result.stderr
    ours, theirs = final_weights(tmp_path / "moved"), final_weights(whole_run)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert metrics(tmp_path / "moved") == metrics(whole_run)
    table = result.stdout.splitlines()
    assert [line.split()[0] for line in table[2:4]] == ["1", "2"]


def test_a_killed_run_resumes_to_the_same_weights(
    tmp_path: Path, whole_run: Path, ptblm: Ptblm
) -> None:
    """Records that came after the last checkpoint are dropped, and written anew."""
    process = start(tmp_path / "run")
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    wait_for_steps(tmp_path / "run", len(metrics(whole_run)) // 2 + 3)
    process.kill()
    process.communicate(timeout=60)
    (tmp_path / "run" / "checkpoints" / "last.safetensors.part").write_bytes(b"half a file")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    result = ptblm("train", "--resume", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    ours, theirs = final_weights(tmp_path / "run"), final_weights(whole_run)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert metrics(tmp_path / "run") == metrics(whole_run)
    assert not list(tmp_path.glob("**/*.part"))


@pytest.fixture(scope="module")
def stops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs of 99 steps, the rate halved in the second, that kept every step."""
    directory = tmp_path_factory.mktemp("stops") / "run"
    settings = ["model.hidden_size=12", "model.dropout=0.3", "training.epochs=2"]
    settings += ["training.schedule.full_rate_epochs=1", "run.log_every=7"]
    settings += ["run.checkpoint_every=1 steps", "run.keep_checkpoints=1000"]
    command = [sys.executable, "-m", "ptblm", "train", "--data", "sample"]
    command += ["--run-dir", str(directory)]
    for setting in settings:
        command += ["--set", setting]
    subprocess.run(command, env=plain_environment(), capture_output=True, check=True)
    return directory


# The first step, mid-epoch, just before an epoch's end and a decay, at it, after it, the last.
@pytest.mark.parametrize("step", [1, 50, 98, 99, 100, 197, 198])
def test_a_fresh_process_goes_on_from_any_step_to_the_same_end(
    step: int, stops: Path, tmp_path: Path, ptblm: Ptblm
) -> None:
    directory = copy_of(stops, tmp_path)
    checkpoints = directory / "checkpoints"
    kept = (checkpoints / f"step-{step:09}.safetensors").read_bytes()
    assert load_checkpoint(checkpoints / f"step-{step:09}.safetensors").trained()[1] == step
    shutil.rmtree(checkpoints)
    checkpoints.mkdir()
    (checkpoints / "last.safetensors").write_bytes(kept)
    assert ptblm("train", "--resume", directory).returncode == 0
    ours, theirs = final_weights(directory), final_weights(stops)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert metrics(directory) == metrics(stops)


@pytest.mark.parametrize(
    ("optimizer", "rate", "schedule", "step"),
    [
        ("momentum", 0.1, ["training.schedule=cosine"], 50),
        ("adam", 0.01, ["training.schedule=plateau", "training.warmup_steps=80"], 50),
        ("rmsprop", 0.01, ["training.schedule=constant"], 99),
    ],
)
def test_a_fresh_process_goes_on_with_any_optimizer(
    optimizer: str, rate: float, schedule: list[str], step: int, tmp_path: Path, ptblm: Ptblm
) -> None:
    settings = [f"training.optimizer={optimizer}", f"training.learning_rate={rate}", *schedule]
    settings += ["model.hidden_size=12", "model.dropout=0.3", "training.epochs=2"]
    settings += ["run.checkpoint_every=50 steps", "run.keep_checkpoints=9"]
    settings += ["run.log_every=7", "data.path=sample"]
    options = [word for setting in settings for word in ("--set", setting)]
    assert ptblm("train", "--run-dir", tmp_path / "whole", *options).returncode == 0
    directory = copy_of(tmp_path / "whole", tmp_path)
    checkpoints = directory / "checkpoints"
    (checkpoints / f"step-{step:09}.safetensors").replace(checkpoints / "last.safetensors")
    again = ptblm("train", "--resume", directory)
    assert again.returncode == 0, again.stderr
    assert f"step {step}" in again.stderr
    ours, theirs = (
        load_checkpoint(run / "checkpoints" / "last.safetensors").trainer_state()
        for run in (directory, tmp_path / "whole")
    )
    assert all(torch.equal(ours["model"][name], theirs["model"][name]) for name in theirs["model"])
    assert theirs["optimizer"].keys() == ours["optimizer"].keys()
    for name, value in theirs["optimizer"].items():
        assert torch.equal(ours["optimizer"][name], value), name
    if optimizer == "adam":
        assert theirs["optimizer"]["head.bias.step"] == 198
    assert metrics(directory) == metrics(tmp_path / "whole")


def test_a_cosine_ends_where_it_said_that_it_would() -> None:
    """Its rates depend on training.epochs, which any other schedule may be given more of."""
    for schedule in ("tutorial", "plateau", "constant", "cosine"):
        before = load_config("small", [f"training.schedule={schedule}"])
        after = override_config(before, ["training.epochs=20"])
        for diverged in (False, True):
            if schedule != "cosine":
                refuse_changes(before, after, diverged=diverged)
                continue
            with pytest.raises(ConfigError) as caught:
                refuse_changes(before, after, diverged=diverged)
            assert caught.value.what == (
                "training.epochs: 13 in the run, 20 now; a run can't change it on the way "
                "(all rates of a cosine schedule depend on training.epochs)"
            )
            assert "training.epochs" not in (caught.value.hint or "")


def copy_of(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / "copy"))


def test_a_finished_run_can_be_prolonged(tmp_path: Path, whole_run: Path, ptblm: Ptblm) -> None:
    directory = copy_of(whole_run, tmp_path)
    again = ptblm("train", "--resume", directory)
    assert again.returncode == 0
    assert metrics(directory) == metrics(whole_run)
    longer = ptblm("train", "--resume", directory, "--set", "training.epochs=3")
    assert longer.returncode == 0, longer.stderr
    epochs = [record["epoch"] for record in metrics(directory) if record["kind"] == "epoch"]
    assert epochs == [1, 2, 3]


@pytest.mark.skipif(not onednn_is_accurate(), reason="there is only one way here")
def test_a_run_keeps_who_computes_its_products(
    tmp_path: Path, whole_run: Path, ptblm: Ptblm
) -> None:
    """Else it would end in other last digits on another processor."""
    directory = copy_of(whole_run, tmp_path)
    last = directory / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    other = "torch" if checkpoint.versions["products"] == "onednn" else "onednn"
    versions = {**checkpoint.versions, "products": other}
    save_checkpoint(last, replace(checkpoint, versions=versions))
    result = ptblm("train", "--resume", directory, "--set", "training.epochs=3")
    assert result.returncode == 0, result.stderr
    assert load_checkpoint(last).versions["products"] == other


@pytest.mark.skipif(not onednn_is_accurate(), reason="there is only one way here")
@pytest.mark.parametrize(
    ("said", "chosen"), [("torch", False), ("onednn", True), (None, False), ("device", True)]
)
def test_evaluation_computes_as_the_run_did(
    tmp_path: Path,
    whole_run: Path,
    said: str | None,
    chosen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A checkpoint of old does not say how; one of a GPU leaves it to the processor."""
    monkeypatch.setattr(products_module, "_mkl_is_slow", lambda: True)
    last = copy_of(whole_run, tmp_path) / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    versions = {key: value for key, value in checkpoint.versions.items() if key != "products"}
    versions |= {} if said is None else {"products": said}
    save_checkpoint(last, replace(checkpoint, versions=versions))
    with use_matmul_backend("default"):
        found = evaluate_checkpoint(last, split=None, data=None, text=None, device_name="cpu")
    assert found.device.endswith("products by oneDNN") == chosen


def test_what_would_change_the_run_is_refused(
    tmp_path: Path, whole_run: Path, ptblm: Ptblm
) -> None:
    directory = copy_of(whole_run, tmp_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    result = ptblm("train", "--resume", directory, "--seed", "5", "--set", "model.num_layers=1")
    assert result.returncode == 2
    assert "training.seed: 4 in the run, 5 now" in result.stderr
    assert "model.num_layers: 2 in the run, 1 now" in result.stderr
    assert {p: p.read_bytes() for p in directory.rglob("*") if p.is_file()} == before


def test_another_text_is_refused(
    tmp_path: Path, whole_run: Path, ptblm: Ptblm, small_corpus: Path
) -> None:
    directory = copy_of(whole_run, tmp_path)
    result = ptblm("train", "--resume", directory, "--data", small_corpus)
    assert result.returncode == 3
    assert "not the text that the run began with" in result.stderr


def test_evaluation_refuses_a_damaged_checkpoint_and_keeps_it(
    tmp_path: Path, whole_run: Path, ptblm: Ptblm
) -> None:
    directory = copy_of(whole_run, tmp_path)
    last = directory / "checkpoints" / "last.safetensors"
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    last.write_bytes(data)
    result = ptblm("eval", directory)
    assert result.returncode == 4
    assert "do not match its digest" in result.stderr
    assert last.read_bytes() == data
