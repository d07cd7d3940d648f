"""Says what a run ran on: versions, hardware, command."""

import os
import platform
import sys
import time
from typing import Any

import torch

from ptblm.training.checkpoint import current_versions


def describe_environment(command: list[str], seed: int) -> dict[str, Any]:
    """What someone needs to know to repeat a run."""
    cuda = torch.cuda.is_available()
    return {
        "command": command,
        "seed": seed,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": {**current_versions(), "cuda": torch.version.cuda},
        "platform": platform.platform(),
        "processor": processor_name(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if cuda
        else [],
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
