"""Starts, resumes and reads runs."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config, override_config
from ptblm.config.schema import Config
from ptblm.reporting.reporter import Reporter, RunResult
from ptblm.run.agreement import allow_typed
from ptblm.run.train import train
from tests.conftest import plain_environment
from tests.new_process import PipedCommand

# A run of one epoch of 39 steps.
TINY = ["data.path=sample", "model.hidden_size=4", "training.batch_size=50", "training.epochs=1"]


def tiny(*overrides: str) -> list[str]:
    """The overrides of a tiny run; the given ones have priority."""
    values = dict(override.split("=", 1) for override in [*TINY, *overrides])
    return [f"{key}={value}" for key, value in values.items()]


def tiny_config(*overrides: str) -> Config:
    return load_config("small", tiny(*overrides))


def options(overrides: Sequence[str]) -> list[str]:
    """Overrides as options of the command line."""
    return [word for override in overrides for word in ("--set", override)]


def resume(directory: Path, *overrides: str, reporter: Reporter | None = None) -> RunResult:
    """Resumes a run in this process."""
    allow_typed(overrides)
    return train(
        lambda run: override_config(run, list(overrides)),
        directory,
        resume="must",
        reporter=reporter,
    )


def start(*arguments: object, cwd: Path) -> PipedCommand:
    """Starts `ptblm ARGUMENTS...` with pipes for stdin, stdout and stderr."""
    return PipedCommand([*map(str, arguments)], cwd=cwd, env=plain_environment())


def wait_for(path: Path, lines: int = 0) -> None:
    """Waits until a file exists and has a number of complete lines."""
    deadline = time.monotonic() + 120
    while not path.is_file() or path.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def last_checkpoint(directory: Path) -> Path:
    return directory / "checkpoints" / "last.safetensors"


def metrics(directory: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl, without times."""
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    times = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in lines]


def assert_same_end(run: Path, expected: Path) -> None:
    """Asserts that two runs have the same weights, averages, state and metrics, bit for bit."""
    ours = load_checkpoint(last_checkpoint(run))
    theirs = load_checkpoint(last_checkpoint(expected))
    for name in ("model", "average", "short_average", "optimizer"):
        tensors, expected_tensors = getattr(ours, name), getattr(theirs, name)
        assert tensors.keys() == expected_tensors.keys()
        for key, tensor in expected_tensors.items():
            assert torch.equal(tensors[key], tensor), key
    assert metrics(run) == metrics(expected)


def copy_run(directory: Path, parent: Path) -> Path:
    return Path(shutil.copytree(directory, parent / "run"))


def contents(directory: Path) -> dict[str, bytes]:
    """The bytes of all files of a directory except the lock, by relative path."""
    files = [path for path in directory.rglob("*") if path.is_file()]
    found = {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if name != "lock"}


def flip_bit(path: Path) -> None:
    """Flips one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
