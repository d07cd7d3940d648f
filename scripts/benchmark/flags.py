"""Records the process-wide flags of torch before ptblm changes them.

Import this module before ptblm, because it records the current flags as the defaults of torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_OWNERS_AND_NAMES: tuple[tuple[Any, str], ...] = (
    # General flags come first, because setting them may change specific flags.
    (torch.backends, "fp32_precision"),
    (torch.backends.mkldnn, "fp32_precision"),
    (torch.backends.mkldnn.matmul, "fp32_precision"),  # type: ignore[attr-defined]
    (torch.backends.mkldnn.rnn, "fp32_precision"),  # type: ignore[attr-defined]
    (torch.backends.mkldnn, "enabled"),
    (torch.backends.mkldnn, "deterministic"),
    (torch.backends.cuda.matmul, "fp32_precision"),
    (torch.backends.cudnn, "fp32_precision"),
    (torch.backends.cudnn.rnn, "fp32_precision"),
    (torch.backends.cudnn, "enabled"),
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
)

Flags = list[Any]


def read_flags() -> Flags:
    """Returns the current values of all flags."""
    return [getattr(owner, name) for owner, name in _OWNERS_AND_NAMES]


def _write(flags: Flags) -> None:
    for (owner, name), value in zip(_OWNERS_AND_NAMES, flags, strict=True):
        setattr(owner, name, value)


DEFAULTS = read_flags()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Uses the default flags of torch inside the block and restores the flags afterwards."""
    before = read_flags()
    _write(DEFAULTS)
    try:
        yield
    finally:
        _write(before)


@contextmanager
def cuda_fp32_precision(kind: str) -> Iterator[None]:
    """Sets the precision of fp32 matrix multiplications and the cuDNN LSTM inside the block.

    By default, torch computes the LSTM in tf32 and everything else in fp32.

    Args:
        kind: "ieee" for fp32, or "tf32".
    """
    with torch_defaults():
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]
        yield


@contextmanager
def medium_matmul_precision() -> Iterator[None]:
    """Uses `torch.set_float32_matmul_precision("medium")` and default flags inside the block.

    On a CPU, this selects oneDNN for fp32 matrix multiplications. oneDNN computes them in fp32 on
    processors without bf16 matrix units.
    """
    with torch_defaults():
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision("highest")


@contextmanager
def fp32_matmul_precision(kind: str, device: torch.device) -> Iterator[None]:
    """Sets `fp32_precision` for matrix multiplications on a device inside the block."""
    backends = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    before = backends.matmul.fp32_precision
    backends.matmul.fp32_precision = kind
    try:
        yield
    finally:
        backends.matmul.fp32_precision = before
