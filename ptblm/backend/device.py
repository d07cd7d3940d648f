"""Selects the device of a process."""

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass

import torch

from ptblm.backend.joining import local_rank
from ptblm.errors import UsageError
from ptblm.terminal import counted


@dataclass(frozen=True)
class SelectedDevice:
    """The device that a process computes on.

    Attributes:
        device: the torch device, with its index for CUDA.
        hardware: name of the GPU or processor.
        threads: number of threads that a CPU operation uses.
        automatic: whether "auto" selected it.
    """

    device: torch.device
    hardware: str
    threads: int
    automatic: bool

    def __str__(self) -> str:
        """Returns a readable description: "cuda:0 (NVIDIA H100)", "cpu (2 threads)"."""
        if self.device.type == "cpu":
            reason = "; no CUDA device found" if self.automatic else ""
            return f"cpu ({counted(self.threads, 'thread')}{reason})"
        return f"{self.device} ({self.hardware})"


def select_device(name: str) -> SelectedDevice:
    """Selects the device that `run.device` names.

    "auto" selects CUDA if it is available and the CPU otherwise. A device that is named
    explicitly is never replaced by another one. If several processes train together, each uses
    the CUDA device with its number on the machine.

    Args:
        name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        UsageError: if the named device is not available.
    """
    automatic = name == "auto"
    if automatic:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = _cuda_device(name) if name not in ("cpu", "mps") else torch.device(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch finds no Apple GPU", hint=_OTHER_DEVICES)
    if name == "mps" and local_rank() is not None:
        raise UsageError("--device mps: several processes cannot use an Apple GPU")
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()
    return SelectedDevice(device, hardware, torch.get_num_threads(), automatic)


_OTHER_DEVICES = "pass --device cpu, or omit --device to use what is available"


def _cuda_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type != "cuda":
        raise UsageError(f"--device {name}: expected auto, cpu, cuda, cuda:N or mps")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(f"--device {name}: torch finds no CUDA device", hint=_OTHER_DEVICES)
    place = local_rank()
    if place is not None and device.index is not None:
        raise UsageError(
            f"--device {name}: several processes cannot use the same device",
            hint="pass --device cuda, which selects a device for each process",
        )
    index = device.index if device.index is not None else place
    if index is None:
        index = torch.cuda.current_device()
    if index >= count:
        processes = "" if place is None else f", too few for process {place} of the machine"
        raise UsageError(
            f"--device {name}: this machine has {counted(count, 'CUDA device')}{processes}",
            hint="start one process per device" if processes else "device numbers start at cuda:0",
        )
    if place is not None:
        torch.cuda.set_device(index)  # NCCL uses the current device
    return torch.device("cuda", index)


def processor_name() -> str:
    """Returns the name of the processor, or its architecture if the name is unknown."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def can_compile(device: torch.device) -> bool:
    """Returns whether torch.compile can generate kernels for `device` that save time.

    On a CPU they save none, because matrix multiplications take most of the time of a step.
    """
    compilers = (os.environ.get("CC", "cc"), "gcc", "clang")
    has_compiler = any(shutil.which(name) for name in compilers)
    has_triton = importlib.util.find_spec("triton") is not None
    return device.type == "cuda" and has_compiler and has_triton
