"""Chooses the device that a run computes on, and says why."""

import importlib.util
import os
import shutil

import torch

from ptblm.errors import UsageError


def choose_device(name: str) -> tuple[torch.device, str]:
    """The device that `run.device` asks for, and a phrase that describes it.

    "auto" takes CUDA when there is one, else the CPU. A device asked for by name is never
    replaced by another.

    Raises:
        UsageError: if the named device is absent.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return choose_device("cuda")
        return torch.device("cpu"), f"{_describe_cpu()}; no CUDA device was found"
    if name == "cpu":
        return torch.device("cpu"), _describe_cpu()
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError("--device mps: no Apple GPU is available to torch", hint=_OTHERS)
        return torch.device("mps"), "mps"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type != "cuda":
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(f"--device {name}: no CUDA device is available to torch", hint=_OTHERS)
    index = device.index if device.index is not None else torch.cuda.current_device()
    if index >= count:
        raise UsageError(
            f"--device {name}: there are {count} CUDA devices", hint="cuda:0 is the first"
        )
    return torch.device("cuda", index), f"cuda:{index}, {torch.cuda.get_device_name(index)}"


_OTHERS = "--device cpu, or leave it out to take what there is"


def _describe_cpu() -> str:
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


def can_compile(device: torch.device) -> bool:
    """Whether torch can compile kernels of its own for `device`, and it is worth it.

    On a CPU it is not: there a step's time is in its products.
    """
    has_c = any(shutil.which(name) for name in (os.environ.get("CC", "cc"), "gcc", "clang"))
    return device.type == "cuda" and has_c and importlib.util.find_spec("triton") is not None
