"""Links, pipes and other people's files in or instead of a run directory."""

import json
import os
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.errors import CheckpointError, UsageError
from ptblm.files import replacing
from ptblm.json_files import read_json
from ptblm.run.checkpoints import verify_checkpoints
from ptblm.run.load_model import load_model
from ptblm.run.lock import lock_run_dir
from ptblm.run.train import train
from tests.run.helpers import contents, last_checkpoint, resume, tiny_config


@pytest.mark.parametrize("resume_mode", ["never", "auto"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_rejected_directory_stays_untouched(
    tmp_path: Path, resume_mode: str, overwrite: bool
) -> None:
    (tmp_path / "thesis.tex").write_text("text")
    with pytest.raises(UsageError) as caught:
        train(tiny_config(), tmp_path, resume=resume_mode, overwrite=overwrite)  # type: ignore[arg-type]
    assert list(contents(tmp_path)) == ["thesis.tex"]
    if resume_mode == "auto":
        assert "so --resume auto does not delete it" in caught.value.what


def test_tensorboard_file_is_a_clear_error(run: Path) -> None:
    pytest.importorskip("tensorboard")
    (run / "tensorboard").write_text("")
    with pytest.raises(UsageError, match="cannot write to the run directory"):
        resume(run, "run.tensorboard=true")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_as_config_does_not_block_a_resume(run: Path) -> None:
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")
    resume(run)
    assert (run / "config.yaml").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_named_pipe_is_not_read_as_json(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_json(tmp_path / "pipe") == {}


def test_write_does_not_follow_a_link_to_another_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("precious")
    (tmp_path / "file.part").symlink_to(tmp_path / "other")
    with replacing(tmp_path / "file") as file:
        file.write(b"new")
    assert (tmp_path / "other").read_text() == "precious"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("value", [None, True, "3"])
def test_checkpoint_without_progress_is_a_checkpoint_error(run: Path, value: object) -> None:
    path = last_checkpoint(run)
    checkpoint = load_checkpoint(path)
    checkpoint.train_state["epoch"] = value
    save_checkpoint(path, checkpoint)
    with pytest.raises(CheckpointError, match="epoch or step"):
        load_model(run)


def test_checkpoint_with_a_custom_cell_is_verified_without_it(run: Path) -> None:
    path = last_checkpoint(run)
    checkpoint = load_checkpoint(path)
    checkpoint.config["model"]["cell"] = {"type": "no_such_module:Cell"}
    save_checkpoint(path, checkpoint)
    verdicts = {verdict.path.name: verdict for verdict in verify_checkpoints(run)}
    assert [verdict.problem for verdict in verdicts.values()] == [None, None]
    assert verdicts["best.safetensors"].custom_cell is None
    assert verdicts["last.safetensors"].custom_cell == "no_such_module:Cell"


def test_lock_message_names_the_process(run: Path) -> None:
    with (
        lock_run_dir(run),
        # Some versions of filelock empty the lock file, so that the process is unknown.
        pytest.raises(UsageError, match=f"in use by (process {os.getpid()}|another process)"),
    ):
        resume(run)
    assert json.loads((run / "environment.json").read_text())["command"] == []
