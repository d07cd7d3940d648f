"""Says what a run ran on: versions, hardware, command."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ptblm.backend.device import processor_name
from ptblm.checkpoint.format import current_versions
from ptblm.files import read_json, write_json


def describe_environment(
    command: list[str], seed: int, computing: dict[str, Any]
) -> dict[str, Any]:
    """What someone needs to know to repeat a run."""
    return {"command": command, "seed": seed, **_here_and_now(computing)}


def record_resumption(path: Path, command: list[str], computing: dict[str, Any]) -> None:
    """Adds to a run's environment file what it goes on with.

    Raises:
        OSError: if the file can't be written.
    """
    environment = read_json(path)
    resumed = environment.get("resumed")
    before = resumed if isinstance(resumed, list) else []
    resumption = {"command": command, **_here_and_now(computing)}
    write_json(path, {**environment, "resumed": [*before, resumption]})


def _here_and_now(computing: dict[str, Any]) -> dict[str, Any]:
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {**current_versions(), "cuda": torch.version.cuda},
        "computing": computing,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
    }
