"""When checkpoints are saved, which ones are kept, and what happens if a save fails."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest
import torch

from ptblm.checkpoint.document import FORMAT
from ptblm.checkpoint.format import Checkpoint, load_checkpoint
from ptblm.errors import CheckpointError
from ptblm.run.directory import RunDirectory
from ptblm.run.saving import CheckpointInterval, keep_numbered, save_or_raise, save_or_warn
from ptblm.run.train import train
from tests.conftest import Ptblm, plain_environment
from tests.run.helpers import TINY, contents, last_checkpoint, options, tiny_config


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
    assert not save_or_warn(RunDirectory(run), last, full_disk)
    assert "was not saved" in log.messages[0]
    with pytest.raises(CheckpointError, match="No space left") as caught:
        save_or_raise(RunDirectory(run), full_disk)
    assert f"continue from last.safetensors: ptblm train --resume {run}" in str(caught.value)
    assert last.read_bytes() == before
    for path in (last, last.with_name("best.safetensors")):
        path.unlink()
    with pytest.raises(CheckpointError) as caught:
        save_or_raise(RunDirectory(run), full_disk)
    assert f"no earlier checkpoint: ptblm train --config {run / 'config.yaml'}" in str(caught.value)


def test_directory_that_cannot_be_read_is_no_other_error(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(RunDirectory, "all_checkpoints", fail)
    with pytest.raises(CheckpointError, match="No space left") as caught:
        save_or_raise(RunDirectory(run), full_disk)
    assert f"resume the run: ptblm train --resume {run}" in str(caught.value)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_numbered_checkpoints_are_copied_without_hard_links(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.link", link)
    train(tiny_config("run.keep_checkpoints=2", "training.epochs=2"), tmp_path / "run")
    kept = [path.name for path in RunDirectory(tmp_path / "run").all_checkpoints()]
    numbered = ["step-000000039.safetensors", "step-000000078.safetensors"]
    assert kept == ["best.safetensors", "last.safetensors", *numbered]
    for name in kept:
        load_checkpoint(tmp_path / "run" / "checkpoints" / name)
    assert log.messages == []


def test_interrupted_copy_leaves_no_checkpoint(
    run: Path, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def copy(_: object, target: IO[bytes], *__: object) -> None:
        target.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.link", link)
    monkeypatch.setattr("shutil.copyfileobj", copy)
    before = contents(run)
    keep_numbered(RunDirectory(run), 39, 2)
    assert contents(run) == before
    assert "was not kept" in log.messages[0]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_run_on_a_drive_without_hard_links(tmp_path: Path) -> None:
    """In a real process, in which link() fails, as on exFAT and many network shares."""
    source = tmp_path / "nolink.c"
    source.write_text(
        "#include <errno.h>\n"
        "int link(const char *a, const char *b) { errno = EPERM; return -1; }\n"
        "int linkat(int a, const char *b, int c, const char *d, int e)\n"
        "{ errno = EPERM; return -1; }\n"
    )
    library = tmp_path / "nolink.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source], check=True)
    keep = options([*TINY, "run.keep_checkpoints=1"])
    result = subprocess.run(
        [sys.executable, "-m", "ptblm", "train", *keep, "--run-dir", "run"],
        cwd=tmp_path,
        env={**plain_environment(), "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert "warning" not in result.stderr
    load_checkpoint(tmp_path / "run" / "checkpoints" / "step-000000039.safetensors")


def test_checkpoint_show_describes_content(finished: Path, ptblm: Ptblm) -> None:
    shown = ptblm("checkpoint", "show", finished)
    assert shown.returncode == 0
    for part in (
        f"format {FORMAT}",
        "1 epoch, 39 steps",
        "247 words",
        "sample",
        f"torch {torch.__version__}",
    ):
        assert part in shown.stdout
