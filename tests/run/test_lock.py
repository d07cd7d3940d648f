"""The lock of a run directory: what it leaves behind, and directories that are replaced."""

import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.errors import PtblmError, UsageError
from ptblm.run.lock import lock_run_dir
from ptblm.run.signals import STOP_SIGNALS, StopSignal
from ptblm.run.train import Resume, train


@pytest.fixture(scope="module")
def config() -> Config:
    overrides = ["data.path=sample", "model.hidden_size=4", "training.epochs=1"]
    return load_config("small", [*overrides, "training.batch_size=200"])


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("resume", ["never", "auto", "must"])
@pytest.mark.parametrize("name", ["thesis.tex", "lock"])
def test_directory_of_other_files_is_left_unchanged(
    name: str, resume: Resume, overwrite: bool, config: Config, tmp_path: Path
) -> None:
    (tmp_path / name).write_text("years of work")
    (tmp_path / "notes.txt").write_text("more work")
    with pytest.raises(PtblmError):
        train(config, tmp_path, resume=resume, overwrite=overwrite)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        name: "years of work",
        "notes.txt": "more work",
    }


@pytest.mark.parametrize("content", ["", "999999\n"])
def test_lock_file_without_process_is_not_in_the_way(
    content: str, config: Config, tmp_path: Path
) -> None:
    (tmp_path / "lock").write_text(content)
    train(config, tmp_path)
    assert (tmp_path / "result.json").is_file()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSPC])
def test_failed_lock_leaves_no_directory(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    with pytest.raises(UsageError, match="cannot write"), lock_run_dir(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_deleted_and_recreated_directory_is_noticed(tmp_path: Path) -> None:
    """File systems reuse inode numbers, so a new directory can have the number of the old one."""
    path = tmp_path / "run"
    with lock_run_dir(path) as directory:
        assert directory.is_in_place()
        shutil.rmtree(path)
        assert not directory.is_in_place()
        path.mkdir()
        assert not directory.is_in_place()
    assert path.is_dir()


def test_training_works_outside_the_main_thread(config: Config, tmp_path: Path) -> None:
    thread = threading.Thread(target=train, args=(config, tmp_path / "run"))
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "result.json").is_file()


def test_signal_in_library_use_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    notices: list[None] = []
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopSignal(lambda: notices.append(None)) as stop:
        os.kill(os.getpid(), signal.SIGTERM)  # SIGINT is ignored in a background job of a shell
    assert stop.received == signal.SIGTERM
    assert len(notices) == 1
    assert capfd.readouterr() == ("", "")
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before
