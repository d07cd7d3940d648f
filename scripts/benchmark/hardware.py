"""Describes the processor or GPU of a measurement."""

import re
from pathlib import Path

import torch

from ptblm.backend.device import processor_name


def describe_hardware(device: torch.device) -> str:
    """Returns a description of the hardware, because results depend on it.

    The family and model identify a processor if a virtual machine hides its name. AMD Zen 4 is
    family 25, and Zen 5 is family 26.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    parts = [processor_name()]
    if numbers := _family_and_model():
        parts.append(numbers)
    parts.append(torch.backends.cpu.get_cpu_capability())
    parts.append(f"{threads} thread{'s' if threads > 1 else ''}")
    return ", ".join(parts)


def _family_and_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return None
    family = re.search(r"^cpu family\s*: (\d+)$", text, re.MULTILINE)
    model = re.search(r"^model\s*: (\d+)$", text, re.MULTILINE)
    return f"family {family[1]} model {model[1]}" if family and model else None
