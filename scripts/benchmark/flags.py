"""torch's process-wide flags, as they are before ptblm changes any.

Import this module before ptblm: it records the flags that it finds as torch's defaults.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_OWNERS_AND_NAMES: tuple[tuple[Any, str], ...] = (
    # Wider flags come first: setting one may change the narrower ones.
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
    """The current values of all flags."""
    return [getattr(owner, name) for owner, name in _OWNERS_AND_NAMES]


def _write(flags: Flags) -> None:
    for (owner, name), value in zip(_OWNERS_AND_NAMES, flags, strict=True):
        setattr(owner, name, value)


DEFAULTS = read_flags()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Sets the flags to torch's defaults inside the block and restores them afterwards."""
    before = read_flags()
    _write(DEFAULTS)
    try:
        yield
    finally:
        _write(before)


@contextmanager
def cuda_fp32_precision(kind: str) -> Iterator[None]:
    """Computes fp32 matrix multiplications and cuDNN's LSTM as `kind` inside the block.

    torch's defaults compute the LSTM in tf32 and everything else in fp32.

    Args:
        kind: "ieee" for fp32, or "tf32".
    """
    with torch_defaults():
        torch.backends.cuda.matmul.fp32_precision = kind
        torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]
        yield


@contextmanager
def medium_matmul_precision() -> Iterator[None]:
    """Calls `torch.set_float32_matmul_precision("medium")`, all else being torch's defaults.

    On a CPU this sends fp32 matrix multiplications to oneDNN, which computes them in fp32 on
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
    """Sets torch's `fp32_precision` flag for a device's matrix multiplications to `kind`."""
    backends = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    before = backends.matmul.fp32_precision
    backends.matmul.fp32_precision = kind
    try:
        yield
    finally:
        backends.matmul.fp32_precision = before
