"""When checkpoints are saved, which ones are kept, and what happens if a save fails."""

import time
from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.format import FORMAT, Checkpoint, load_checkpoint
from ptblm.errors import CheckpointError
from ptblm.run.saving import CheckpointInterval, save_or_raise, save_or_warn
from ptblm.run.train import train
from tests.conftest import Ptblm
from tests.run.helpers import last_checkpoint, tiny_config


def full_disk() -> Checkpoint:
    raise OSError(28, "No space left on device")


def test_interval_in_steps_and_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    by_steps = CheckpointInterval("200 steps", step=50)
    assert [step for step in (51, 249, 250, 300) if by_steps.is_due(step)] == [250, 300]
    by_steps.restart(300)
    assert not by_steps.is_due(499)
    now = time.monotonic()
    by_minutes = CheckpointInterval("5 minutes", step=0)
    assert not by_minutes.is_due(10**6)
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert by_minutes.is_due(1)


def test_newest_numbered_checkpoints_are_kept(tmp_path: Path) -> None:
    keep = ["run.keep_checkpoints=2", "run.checkpoint_every=15 steps", "training.epochs=2"]
    train(tiny_config(*keep), tmp_path / "run")
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [
        "best.safetensors",
        "last.safetensors",
        "step-000000069.safetensors",
        "step-000000078.safetensors",
    ]
    for name in kept[2:]:
        path = tmp_path / "run" / "checkpoints" / name
        assert load_checkpoint(path).trained()[1] == int(name[5:14])


def test_failed_save_warns_during_and_raises_at_the_end(
    run: Path, log: pytest.LogCaptureFixture
) -> None:
    last = last_checkpoint(run)
    before = last.read_bytes()
    assert not save_or_warn(last, full_disk)
    assert "was not saved" in log.messages[0]
    with pytest.raises(CheckpointError, match="No space left") as caught:
        save_or_raise(last, full_disk)
    assert "from the previous checkpoint" in str(caught.value)
    assert last.read_bytes() == before
    with pytest.raises(CheckpointError) as caught:
        save_or_raise(run / "checkpoints" / "none.safetensors", full_disk)
    assert "no earlier checkpoint" in str(caught.value)


def test_checkpoint_show_describes_content(finished: Path, ptblm: Ptblm) -> None:
    shown = ptblm("checkpoint", "show", finished)
    assert shown.returncode == 0
    for part in (
        f"format {FORMAT}",
        "1 epochs, 39 steps",
        "247 words",
        "sample",
        f"torch {torch.__version__}",
    ):
        assert part in shown.stdout
