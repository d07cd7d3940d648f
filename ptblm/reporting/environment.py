"""Says what a run ran on: versions, hardware, command."""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ptblm.checkpoint.format import current_versions
from ptblm.files import read_json, write_json


def describe_environment(command: list[str], seed: int, device: str) -> dict[str, Any]:
    """What someone needs to know to repeat a run."""
    return {"command": command, "seed": seed, **_here_and_now(device)}


def record_resumption(path: Path, command: list[str], device: str) -> None:
    """Adds to a run's environment file what it goes on with.

    Raises:
        OSError: if the file can't be written.
    """
    environment = read_json(path)
    resumed = environment.get("resumed")
    before = resumed if isinstance(resumed, list) else []
    resumption = {"command": command, **_here_and_now(device)}
    write_json(path, {**environment, "resumed": [*before, resumption]})


def _here_and_now(device: str) -> dict[str, Any]:
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {**current_versions(), "cuda": torch.version.cuda},
        "device": device,
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "executable": sys.executable,
    }


def processor_name() -> str:
    """The processor's own name where the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
