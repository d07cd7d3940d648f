"""`make gpu-check`: its commands are valid, failures are reported, a missing GPU is an error."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tests.conftest import REPOSITORY, load_script, plain_environment


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--runs", str(tmp_path / "runs")])
    return load_script("gpu_check")


def test_commands_are_accepted_by_their_programs(script: ModuleType, tmp_path: Path) -> None:
    """With `--help` added, each program parses its options and stops."""
    for command in [*script.commands(tmp_path), *script.commands(tmp_path, ["lstm-melis"])]:
        ended = subprocess.run(
            [*command, "--help"],
            cwd=REPOSITORY,
            env=plain_environment(),
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("codes", "expected"), [([0, 0, 0, 0], 0), ([0, 5, 0, 0], 1)])
def test_all_commands_run_and_failures_are_reported(
    codes: list[int],
    expected: int,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        ran.append(command)
        return SimpleNamespace(returncode=codes[len(ran) - 1])

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(subprocess, "run", run)
    assert script.main() == expected
    assert ran == script.commands(tmp_path / "runs")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("exit code 5: " if expected else "all commands succeeded")


def test_given_configs_are_trained_without_other_checks(script: ModuleType, tmp_path: Path) -> None:
    first, second = script.commands(tmp_path, ["large-tied", "mine/other.yaml"])
    assert first[first.index("--config") + 1] == "large-tied"
    assert second[second.index("--config") + 1] == "mine/other.yaml"
    assert second[second.index("--run-dir") + 1] == str(tmp_path / "gpu-other")


def test_missing_gpu_is_an_error(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script.main() == 2
    assert capsys.readouterr().err == "error: no CUDA device is available to torch\n"
    assert not (tmp_path / "runs").exists()
