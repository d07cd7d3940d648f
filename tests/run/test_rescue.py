"""The state of a run is saved even if its directory, or a part of it, is gone."""

import errno
import os
import shlex
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.run import saving
from ptblm.run.lock import lock_run_dir
from ptblm.run.rescue import check_place
from ptblm.run.train import train
from ptblm.training.records import Record
from tests.conftest import Ptblm
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
from tests.unprivileged import unprivileged

LONG = ["training.epochs=40", "run.log_every=5", "run.checkpoint_every=20 steps"]


def remove_checkpoints(run: Path) -> Path:
    shutil.rmtree(run / "checkpoints")
    return run


def remove_all(run: Path) -> Path:
    shutil.rmtree(run)
    return run


def move(run: Path) -> Path:
    return run.rename(run.with_name("moved"))


def replace(run: Path) -> Path:
    shutil.rmtree(run)
    run.mkdir()
    (run / "notes").write_text("not a run")
    return run.with_name("run-2")


@pytest.mark.parametrize("damage", [remove_checkpoints, remove_all, move, replace])
def test_no_step_is_lost_with_the_directory(
    damage: Callable[[Path], Path], tmp_path: Path, ptblm: Ptblm
) -> None:
    process = start("train", *options(tiny(*LONG)), "--run-dir", "run", cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(run / "checkpoints" / "last.safetensors")
    place = damage(run)
    if damage is remove_checkpoints:
        wait_for(run / "checkpoints" / "last.safetensors")
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (143 if damage is remove_checkpoints else 4), errors
    assert "Traceback" not in errors
    saved = load_checkpoint(last_checkpoint(place))
    epochs, steps = saved.trained()
    assert steps >= 20
    if damage is not remove_checkpoints:
        command = errors.splitlines()[-1].partition("continue with ptblm ")[2]
        finished = ptblm(*shlex.split(command), "--set", f"training.epochs={epochs + 1}")
        assert finished.returncode == 0, finished.stderr
        assert (place / "result.json").is_file()
    if damage is replace:
        assert [path.name for path in run.iterdir()] == ["notes"]


@pytest.mark.parametrize("replaced", [False, True])
def test_deleted_metrics_file_is_rewritten_with_all_records(
    replaced: bool, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    config = tiny_config("training.epochs=2", "run.log_every=5")
    train(config, whole)
    is_due = saving.CheckpointSaver.is_due

    def delete_first(self: saving.CheckpointSaver, record: Record) -> bool:
        path = run / "metrics.jsonl"
        if path.is_file() and len(path.read_bytes().splitlines()) == 3:
            path.unlink()
            if replaced:
                path.write_text("other\n")
        return is_due(self, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving.CheckpointSaver, "is_due", delete_first)
        train(config, run)
    assert_same_end(run, whole)
    assert any("was rewritten" in message for message in log.messages)


def test_linked_metrics_file_is_not_written_to(run: Path, tmp_path: Path) -> None:
    """A hard link too, which an archive can create."""
    victim = tmp_path / "victim"
    victim.write_text("precious\n")
    (run / "metrics.jsonl").unlink()
    os.link(victim, run / "metrics.jsonl")
    with pytest.raises(Exception, match="a link or not a regular file"):
        resume(run, "training.epochs=2")
    assert victim.read_text() == "precious\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EROFS])
def test_state_is_saved_elsewhere_if_the_disk_fails(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(tiny_config(), whole)
    save = save_checkpoint

    def fail(path: Path, checkpoint: object) -> None:
        if path.is_relative_to(run):
            raise OSError(number, os.strerror(number), str(path))
        save(path, checkpoint)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ptblm.run.saving.save_checkpoint", fail)
        with pytest.raises(Exception, match="could not be saved") as caught:
            train(tiny_config(), run)
    hint = str(caught.value).splitlines()[-1]
    source, target = shlex.split(hint.partition(": mv ")[2].partition(";")[0])
    assert Path(target) == last_checkpoint(run)
    shutil.move(source, target)
    resume(run)
    assert_same_end(run, whole)


@pytest.mark.parametrize("is_link", [False, True])
def test_link_or_file_in_place_of_the_checkpoints(is_link: bool, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with lock_run_dir(tmp_path / "run") as directory:
        if is_link:
            directory.checkpoints.symlink_to(tmp_path / "elsewhere")
        else:
            directory.checkpoints.touch()
        with pytest.raises(OSError, match="a link or a file, not a directory"):
            check_place(directory, lambda: pytest.fail("nothing to save"))


@pytest.mark.parametrize("mode", ["must", "auto"])
def test_unreadable_checkpoints_are_not_taken_for_missing(mode: str, run: Path) -> None:
    """Advice to delete the run and start again would lose it."""
    resume_option = ["--resume", run] if mode == "must" else ["--resume", "auto", "--run-dir", run]
    user = unprivileged(run.parent)
    (run / "checkpoints").chmod(0)
    try:
        failed = user.run("train", *resume_option)
    finally:
        (run / "checkpoints").chmod(0o755)
    assert failed.returncode == (4 if mode == "must" else 2), failed.stderr
    assert "Permission denied" in failed.stderr
    assert f"  at: {run / 'checkpoints'}" in failed.stderr
    assert "start again" not in failed.stderr
