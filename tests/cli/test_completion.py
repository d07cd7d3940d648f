"""Shell completion: paths as a shell completes them, and never a message."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptblm.cli.completion import complete_config, complete_file, complete_run
from tests.conftest import plain_environment
from tests.in_process import ptblm

PTBLM = "import sys; sys.argv[0] = 'ptblm'; import ptblm.cli; ptblm.cli.main()"
NAMES = ["plain.yaml", "a b.yaml", "[x].yaml", "*.yaml", "**", "?.yml", "it's.yaml", ".hidden.yaml"]


@pytest.fixture
def files(in_directory: Path) -> Path:
    """A directory with configs, runs and a checkpoint; the current directory."""
    for directory in ("conf/deep", "runs/one", "other/run-1/checkpoints", "other/empty"):
        (in_directory / directory).mkdir(parents=True)
    for name in NAMES:
        (in_directory / "conf" / name).touch()
    (in_directory / "other" / "run-1" / "checkpoints" / "last.safetensors").touch()
    (in_directory / "other" / "text.txt").touch()
    return in_directory


def complete(line: str, patch: pytest.MonkeyPatch, **environment: str) -> tuple[str, str]:
    """Completes the last word of a line as for bash; returns stdout and stderr."""
    words = line.split(" ")
    patch.setenv("_PTBLM_COMPLETE", "complete_bash")
    patch.setenv("COMP_WORDS", "\n".join(words))
    patch.setenv("COMP_CWORD", str(len(words) - 1))
    for name, value in environment.items():
        patch.setenv(name, value)
    _, errors, output = ptblm()
    return output, errors


@pytest.mark.parametrize(
    ("incomplete", "expected"),
    [
        ("con", ["conf/"]),
        ("conf/", ["conf/" + name for name in sorted(NAMES) if name not in ("**", ".hidden.yaml")]),
        ("conf/.", ["conf/./", "conf/.hidden.yaml"]),
        ("conf/[", ["conf/[x].yaml"]),
        ("conf/*", ["conf/*.yaml"]),
        ("conf/?", ["conf/?.yml"]),
        ("conf/**", []),
        ("conf/../con", ["conf/../conf/"]),
        ("..", ["../"]),
        ("~", ["~/"]),
        ("~/con", ["~/conf/"]),
        ("$HOME/con", ["$HOME/conf/"]),
        ("nowhere/", []),
        ("x" * 300, []),
        ("x" * 300 + "/", []),
        ("a\0b", []),
        ("me", ["medium", "medium-tied"]),
    ],
)
def test_config_is_completed(
    incomplete: str, expected: list[str], files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(files))
    if incomplete == "conf/":
        expected = sorted([*expected, "conf/deep/"])
    assert complete_config(incomplete) == expected


def test_absolute_paths_and_unreadable_directories(files: Path) -> None:
    assert complete_config(f"{files}/con") == [f"{files}/conf/"]
    assert "/etc/" in complete_config("/et")
    assert complete_config("/proc/1/fdinfo/x/") == []


def test_runs_and_checkpoints_are_completed_anywhere(files: Path) -> None:
    assert complete_run("r") == ["runs/one"]
    assert complete_run("runs/") == ["runs/one"]
    assert complete_run("other/") == ["other/empty/", "other/run-1"]
    assert complete_run(f"{files}/other/r") == [f"{files}/other/run-1"]
    assert complete_run("other/run-1/") == ["other/run-1/checkpoints/"]
    last = "other/run-1/checkpoints/last.safetensors"
    assert complete_run("other/run-1/checkpoints/") == [last]


def test_names_that_a_shell_may_misread_are_left_out(files: Path) -> None:
    for name in (b"\\$(touch x)", b"\x1b[2J", b"a\nb", b"\xff", "\u202e".encode()):
        (files / "other" / os.fsdecode(name)).touch()
    found = complete_file("other/")
    assert found == ["other/empty/", "other/run-1/", "other/text.txt"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train --config con", ["conf/"]),
        ("train --config=con", ["conf/"]),
        ("train -c con", ["conf/"]),
        ("config show con", ["conf/"]),
        ("train --resume o", ["other/"]),
        ("train --init other/r", ["other/run-1"]),
        ("train --data s", ["sample"]),
        ("train --cell g", ["gru"]),
        ("train --data other/t", ["other/text.txt"]),
        ("train --run-dir other/", ["other/empty/", "other/run-1/"]),
        ("eval other/r", ["other/run-1"]),
        ("eval x --text other/t", ["other/text.txt"]),
        ("checkpoint verify other/r", ["other/run-1"]),
        ("download-data wiki", ["wikitext-2", "wikitext-103"]),
        ("download-data --from other/t", ["other/text.txt"]),
        ("download-data --to other/r", ["other/run-1/"]),
    ],
)
@pytest.mark.usefixtures("files")
def test_options_are_completed(
    line: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, errors = complete(f"ptblm {line}", monkeypatch)
    assert (output.splitlines(), errors) == (expected, "")


@pytest.mark.parametrize(
    ("line", "environment"),
    [
        ("ptblm train --config /proc/1/root/", {}),
        ("ptblm train --config **", {}),
        ("ptblm nonsense --x", {}),
        ("ptblm train 'unclosed", {}),
        ("ptblm", {"COMP_CWORD": "x"}),
    ],
)
@pytest.mark.usefixtures("files")
def test_completion_prints_no_message(
    line: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output, errors = complete(line, monkeypatch, **environment)
    assert (output.strip(), errors) == ("", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("train --config conf/a", "conf/a b.yaml"), ("train --config conf/*", "conf/*.yaml")],
)
def test_bash_keeps_names_with_spaces_and_patterns(line: str, expected: str, files: Path) -> None:
    """The function that --show-completion prints, called by bash as for the Tab key."""
    command = files / "ptblm"
    command.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(PTBLM)} "$@"\n'
    )
    command.chmod(0o755)
    (files / "complete.sh").write_text(f"""
        compopt() {{ echo compopt "$@"; }}
        eval "$({command} --show-completion bash)"
        COMP_WORDS=(ptblm {line.rpartition(" ")[0]} {shlex.quote(line.rpartition(" ")[2])})
        COMP_CWORD=3
        _ptblm_completion {command}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """)
    result = subprocess.run(
        ["bash", "complete.sh"], env=plain_environment(), capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == (f"compopt -o filenames\n{expected}\n", "")
