"""Short versions of `make fault-injection`. Each function raises if anything is lost."""

import random
from pathlib import Path
from types import ModuleType

import pytest

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import REPOSITORY, load_script, plain_environment
from tests.run.helpers import last_checkpoint


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("fault_injection")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, script: ModuleType) -> Path:
    """A run of one epoch with the settings of the script, undisturbed."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    script.finish(script.train(directory, epochs=1, env=plain_environment()))
    return directory


def test_killed_training_ends_as_without_kills(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    result = script.kill_while_training(tmp_path, 1, random.Random(1))
    assert "equal those without kills" in result


@pytest.mark.slow
def test_new_runs_killed_at_startup_end_as_without_kills(
    script: ModuleType, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    result = script.kill_new_runs(tmp_path, whole, 3, random.Random(1))
    assert "equal those without kills" in result


@pytest.mark.slow
def test_killed_processes_of_several_are_restarted(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    result = script.kill_one_of_several(tmp_path, 2, random.Random(1))
    assert "2 kills" in result


def test_kill_during_save_leaves_a_complete_checkpoint(
    script: ModuleType, tmp_path: Path, whole: Path
) -> None:
    checkpoint = load_checkpoint(last_checkpoint(whole))
    result = script.kill_while_saving(tmp_path, checkpoint, 20, random.Random(1))
    assert "always a complete checkpoint" in result


def test_flipped_bits_are_detected(script: ModuleType, tmp_path: Path, whole: Path) -> None:
    assert "300 bits" in script.flip_bits(tmp_path, last_checkpoint(whole), 300, random.Random(1))


def test_truncated_checkpoints_are_rejected(
    script: ModuleType, tmp_path: Path, whole: Path
) -> None:
    assert "all rejected" in script.truncate(tmp_path, last_checkpoint(whole), 50)


@pytest.mark.slow
def test_stopped_run_ends_as_without_signals(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    assert "equals that without signals" in script.stop_at_random_times(
        tmp_path, 1, random.Random(1)
    )
