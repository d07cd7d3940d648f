"""Fixtures of a small finished run."""

import logging
from pathlib import Path

import pytest

from ptblm.backend.matmul import use_matmul_backend
from ptblm.run.train import train
from tests.conftest import FAST
from tests.in_process import ptblm
from tests.run.helpers import copy_run, tiny_config


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one epoch of 39 steps. Tests must not change it."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    with use_matmul_backend("default"):
        train(tiny_config(), directory)
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    return copy_run(finished, tmp_path)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Captures the notes and warnings of ptblm."""
    caplog.set_level(logging.INFO, "ptblm")
    return caplog


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with small runs named word, char and byte. Tests must not change it."""
    directory = tmp_path_factory.mktemp("models")
    lines = ["the cat sat on the mat", "a dog <unk> the cat", "the dog ran ."]
    text = directory / "text.txt"
    text.write_text("\n".join(lines * 60) + "\n")
    for tokenizer in ("word", "char", "byte"):
        with use_matmul_backend("default"):
            run = ["--run-dir", directory / tokenizer, "--data", text, "--tokenizer", tokenizer]
            code, errors, _ = ptblm("train", *FAST, *run)
        assert code == 0, errors
    return directory
