"""`ptblm --quiet` shows only results, warnings and errors; `ptblm --verbose` shows details."""

from pathlib import Path

import pytest

from tests.conftest import FAST, Ptblm, write_small_corpus

TRAIN = ["train", "--data", "corpus", *FAST, "--run-dir", "run"]


@pytest.fixture(autouse=True)
def _corpus(tmp_path: Path) -> None:
    write_small_corpus(tmp_path / "corpus")


def test_quiet_run_prints_only_its_summary(ptblm: Ptblm) -> None:
    result = ptblm("--quiet", *TRAIN)
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("valid perplexity ")
    assert "tokens/s" not in result.stdout  # the header of the table of epochs
    assert ptblm("-q", "eval", "run").stderr == ""


def test_quiet_run_shows_warnings_and_errors(ptblm: Ptblm) -> None:
    late = ptblm("--quiet", *TRAIN, "--set", "run.keep_at=[1M]")
    assert late.stderr.startswith("warning: run.keep_at")
    again = ptblm("--quiet", *TRAIN)
    assert again.returncode == 2
    assert again.stderr.startswith("error: the run directory is not empty")


def test_verbose_run_names_files_and_saves(ptblm: Ptblm, tmp_path: Path) -> None:
    plain, verbose = ptblm(*TRAIN), ptblm("--verbose", *TRAIN, "--overwrite")
    notes = [line for line in verbose.stderr.splitlines() if line.startswith("note: ")]
    assert "note: saved run/checkpoints/last.safetensors" in "\n".join(notes)
    assert any(note.startswith("note: reading the config ") for note in notes)
    assert "note: " not in plain.stderr


def test_quiet_and_verbose_exclude_each_other(ptblm: Ptblm) -> None:
    result = ptblm("-q", "-v", "config", "list")
    assert (result.returncode, result.stdout) == (2, "")
    assert "exclude each other" in result.stderr


@pytest.mark.parametrize("option", ["--quiet", "--verbose"])
def test_results_are_the_same(option: str, ptblm: Ptblm, run_directory: Path) -> None:
    assert ptblm(option, "eval", run_directory).stdout == ptblm("eval", run_directory).stdout
