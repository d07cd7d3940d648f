"""What may change when a run is resumed: config keys, the corpus, versions and hardware."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ptblm.backend import matmul
from ptblm.backend.device import select_device
from ptblm.backend.matmul import onednn_is_accurate
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config, override_config
from ptblm.errors import CheckpointError, ConfigError, DataError
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.resume import check_changes
from ptblm.run.train import train
from tests.conftest import REPOSITORY, Ptblm
from tests.run.helpers import contents, flip_bit, last_checkpoint, metrics, resume, tiny_config

needs_onednn = pytest.mark.skipif(not onednn_is_accurate(), reason="only one matmul backend")


def test_keys_that_define_the_run_must_not_change(run: Path, ptblm: Ptblm) -> None:
    before = contents(run)
    result = ptblm("train", "--resume", run, "--seed", "5", "--set", "model.num_layers=1")
    assert result.returncode == 2
    assert "training.seed: is 5, but the run has 0" in result.stderr
    assert "model.num_layers: is 1, but the run has 2" in result.stderr
    assert contents(run) == before


@pytest.mark.parametrize(
    "schedule", ["tutorial", "plateau", "constant", "cosine", "linear", "one_cycle"]
)
@pytest.mark.parametrize("diverged", [False, True])
def test_epochs_may_change_except_with_schedules_by_progress(schedule: str, diverged: bool) -> None:
    """All learning rates of these schedules depend on training.epochs."""
    before = load_config("small", [f"training.schedule={schedule}"])
    after = override_config(before, ["training.epochs=20"])
    if schedule not in ("cosine", "linear", "one_cycle"):
        check_changes(before, after, diverged=diverged)
        return
    with pytest.raises(ConfigError) as caught:
        check_changes(before, after, diverged=diverged)
    assert caught.value.what == (
        "training.epochs: is 20, but the run has 13; a resumed run cannot change it "
        f"(every rate of a {schedule} schedule depends on it)"
    )
    assert "training.epochs" not in (caught.value.hint or "")


def test_changed_config_survives_a_kill_before_the_first_save(
    run: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    before = last_checkpoint(run).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ptblm.run.train.run_loop", killed)
        for overrides in ([], ["training.epochs=2"]):
            assert last_checkpoint(run).read_bytes() == before
            with pytest.raises(KeyboardInterrupt):
                resume(run, *overrides)
    assert resume(run).info.config.training.epochs == 2
    assert metrics(run)[-2]["epoch"] == 2
    assert log.messages == []


def test_other_text_is_rejected(run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(REPOSITORY / "data" / "sample", tmp_path / "other"))
    train_text = (other / "train.txt").read_bytes()
    (other / "train.txt").write_bytes(train_text + train_text[: train_text.index(b"\n") + 1])
    with pytest.raises(DataError, match="not the text that the run began with") as caught:
        resume(run, f"data.path={other}")
    assert caught.value.exit_code == 3


def test_evaluation_rejects_and_keeps_a_damaged_checkpoint(run: Path) -> None:
    last = last_checkpoint(run)
    flip_bit(last)
    damaged = last.read_bytes()
    with pytest.raises(CheckpointError, match="digest does not match") as caught:
        evaluate_checkpoint(run)
    assert caught.value.exit_code == 4
    assert last.read_bytes() == damaged


# --- rounding ---


@pytest.mark.parametrize(
    ("field", "key", "value"),
    [
        ("versions", "ptblm", "another"),
        ("versions", "torch", "another"),
        ("computing", "hardware", "another"),
        ("computing", "threads", 999),
        ("computing", "processes", 3),
        ("computing", "kernel", "another"),
        ("computing", "cuda_graph", True),
    ],
)
def test_change_of_rounding_is_noted(
    field: str, key: str, value: object, run: Path, log: pytest.LogCaptureFixture
) -> None:
    last = last_checkpoint(run)
    checkpoint = load_checkpoint(last)
    resume(run)
    assert log.messages == []
    getattr(checkpoint, field)[key] = value
    save_checkpoint(last, checkpoint)
    resume(run)
    assert len(log.messages) == 1
    assert f"was {value!r} and is " in log.messages[0]
    assert "the run may not be bit-exact" in log.messages[0]


def test_auto_device_and_same_explicit_device_are_equal(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    train(tiny_config("run.device=auto"), tmp_path / "run")
    resume(tmp_path / "run", f"run.device={select_device('auto').device}", "training.epochs=2")
    assert log.messages == []


@needs_onednn
def test_resumed_run_keeps_its_matmul_backend(run: Path, log: pytest.LogCaptureFixture) -> None:
    """Otherwise it would round differently on another processor."""
    last = last_checkpoint(run)
    checkpoint = load_checkpoint(last)
    other = "default" if checkpoint.computing["matmul"] == "onednn" else "onednn"
    save_checkpoint(last, replace(checkpoint, computing={**checkpoint.computing, "matmul": other}))
    resume(run, "training.epochs=2")
    assert load_checkpoint(last).computing["matmul"] == other
    assert log.messages == []


@needs_onednn
@pytest.mark.parametrize(
    ("device", "backend", "is_onednn"),
    [("cpu", "default", False), ("cpu", "onednn", True), ("cuda:0", "default", True)],
)
def test_evaluation_uses_the_matmul_backend_of_the_run(
    device: str, backend: str, is_onednn: bool, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on a GPU has none, so the processor decides."""
    monkeypatch.setattr(matmul, "_mkl_is_slow", lambda: True)
    last = last_checkpoint(run)
    checkpoint = load_checkpoint(last)
    computing = {**checkpoint.computing, "device": device, "matmul": backend}
    save_checkpoint(last, replace(checkpoint, computing=computing))
    evaluate_checkpoint(last, device_name="cpu")
    setting = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]
    assert (setting == "bf16") == is_onednn
