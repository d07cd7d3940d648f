"""The file environment.json of a run: command, versions and hardware."""

import logging
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ptblm.backend.device import processor_name
from ptblm.checkpoint.format import current_versions
from ptblm.json_files import read_json, write_json

logger = logging.getLogger(__name__)


def describe_environment(
    command: list[str], seed: int, computing: dict[str, Any]
) -> dict[str, Any]:
    """Returns the information that is required to repeat a run.

    Args:
        command: the command line.
        seed: the seed of the run.
        computing: device, hardware, threads and kernels of the run, as plain values.
    """
    return {"command": command, "seed": seed, **_current_environment(computing)}


def record_resumption(path: Path, command: list[str], computing: dict[str, Any]) -> None:
    """Appends the current environment to the list `resumed` in environment.json.

    Args:
        path: the file. A file that cannot be read is kept as environment.json.bad.
        command: the command line.
        computing: see `describe_environment`.

    Raises:
        OSError: if the file cannot be written.
    """
    environment = read_json(path)
    if not environment and path.exists():
        os.replace(path, path.with_name(f"{path.name}.bad"))
        logger.warning(f"{path} is not a record of a run; it was renamed to {path.name}.bad")
    resumed = environment.get("resumed")
    before = resumed if isinstance(resumed, list) else []
    resumption = {"command": command, **_current_environment(computing)}
    write_json(path, {**environment, "resumed": [*before, resumption]})


def _current_environment(computing: dict[str, Any]) -> dict[str, Any]:
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {**current_versions(), "cuda": torch.version.cuda},
        "computing": computing,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "executable": sys.executable,
    }
