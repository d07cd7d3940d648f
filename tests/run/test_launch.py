"""The command that starts `ptblm` in child processes."""

import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.utils.api import macros
from torch.distributed.launcher import api

from ptblm.run.launch import launch, own_command

STRANGE = "raise SystemExit('a file of the current directory was run')"


def run(command: list[str], directory: Path) -> str:
    """Runs a command in a directory whose files have the names of standard modules."""
    for name in ("queue", "random", "typing"):
        (directory / f"{name}.py").write_text(STRANGE)
    result = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, check=False, timeout=100
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def console_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives this process the import path of the console script."""
    repository = str(Path(__file__).parents[2])
    entries = [entry for entry in sys.path if entry not in ("", repository)]
    monkeypatch.setattr(sys, "path", ["/bin of 'a' {}", *entries, repository])


@pytest.mark.usefixtures("console_script")
def test_child_does_not_import_from_the_current_directory(tmp_path: Path) -> None:
    assert run([*own_command(), "--version"], tmp_path).startswith("ptblm ")


@pytest.mark.usefixtures("console_script")
def test_processes_get_the_arguments_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def elastic_launch(_config: object, entrypoint: str) -> object:
        def start(*arguments: str) -> None:
            started.append([entrypoint, *macros.substitute(list(arguments), "0")])

        return start

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # set by `launch` otherwise
    monkeypatch.setattr(api, "elastic_launch", elastic_launch)
    typed = ["--version", "a$$b", "${local_rank}", "$HOME"]
    assert launch(2, ["--processes", "2", *typed]) == 0
    assert started[0] == [*own_command(), *typed]
    assert run(started[0][:-3], tmp_path).startswith("ptblm ")
