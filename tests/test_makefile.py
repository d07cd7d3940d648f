"""The Makefile stops before it downloads anything if Python is too old or the disk is full."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

TARGETS = re.findall(
    r"^([a-z-]+):(?: setup)?  ## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
)
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with the Makefile, and an empty directory `bin` for programs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-oldest.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(project: Path, name: str, *lines: str) -> None:
    path = project / "bin" / name
    path.write_text("\n".join(["#!/bin/sh", f'echo "$0 $*" >> {project}/calls', *lines, ""]))
    path.chmod(0o755)


def make(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    for name in ("MAKEFLAGS", "MAKELEVEL", "PYTHON", "VENV"):
        environment.pop(name, None)
    return subprocess.run(
        ["make", *arguments], cwd=project, env=environment, capture_output=True, text=True
    )


def errors_of(result: "subprocess.CompletedProcess[str]") -> list[str]:
    return [line for line in result.stderr.splitlines() if not line.startswith("make")]


@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("help", "clean")])
@pytest.mark.parametrize("version", ["Python 3.10.12", "Python 2.7.18", "Python 3.9.1"])
def test_old_python_is_reported_before_anything_else(
    target: str, version: str, project: Path
) -> None:
    program(project, "python3.10", f"echo {version} >&2")
    result = make(project, target, "PYTHON=python3.10")
    assert result.returncode != 0
    assert errors_of(result) == [
        f"error: ptblm needs Python 3.11 or later, and python3.10 is {version}; "
        f"pass another one: make {target} PYTHON=python3.12"
    ]
    calls = (project / "calls").read_text().splitlines()
    assert [call.partition(" ")[2] for call in calls] == ["--version"]
    assert not list(project.glob(".venv*"))


def test_missing_python_is_reported(project: Path) -> None:
    result = make(project, "demo", "PYTHON=python3.99")
    assert errors_of(result)[0].startswith(
        "error: ptblm needs Python 3.11 or later, and python3.99 is not installed; pass"
    )


@pytest.mark.parametrize("version", ["3.11.0", "3.12.4", "3.14.0rc1", "3.20.1", "4.0.0"])
def test_newer_python_is_used(version: str, project: Path) -> None:
    program(project, "python3", f"echo Python {version}")
    make(project, "setup")
    calls = (project / "calls").read_text().splitlines()
    assert [call.partition(" ")[2] for call in calls] == ["--version", "-m venv .venv"]


def test_full_disk_is_reported(project: Path) -> None:
    program(project, "python3", "echo Python 3.12.4")
    program(project, "df", "echo header; echo disk 5000000 4500000 500000 90% /")
    result = make(project, "demo")
    assert errors_of(result) == ["error: the installation needs at least 2 GB, and 500 MB are free"]
    assert not (project / ".venv").exists()
