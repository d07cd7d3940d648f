"""torch's process-wide flags, as they are before ptblm sets any.

Import this before ptblm: what is found here then counts as torch's defaults.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_OWNERS_AND_NAMES: tuple[tuple[Any, str], ...] = (
    # What is wider comes first: setting it may change the narrower ones.
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
    """The values of all of them."""
    return [getattr(owner, name) for owner, name in _OWNERS_AND_NAMES]


def _write(flags: Flags) -> None:
    for (owner, name), value in zip(_OWNERS_AND_NAMES, flags, strict=True):
        setattr(owner, name, value)


DEFAULTS = read_flags()


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Within this, the flags are torch's own; afterwards as they were before."""
    found = read_flags()
    _write(DEFAULTS)
    try:
        yield
    finally:
        _write(found)


@contextmanager
def plain_flags(precision: str, device: torch.device) -> Iterator[None]:
    """Within this, the flags are torch's own, but that a CUDA device's fp32 and tf32 are these.

    torch's own would have cuDNN's LSTM compute in tf32, and all other products in fp32.
    """
    kind = {"fp32": "ieee", "tf32": "tf32"}.get(precision)
    with torch_defaults():
        if device.type == "cuda" and kind is not None:
            torch.backends.cuda.matmul.fp32_precision = kind
            torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]
        yield


@contextmanager
def fp32_products_as(kind: str, device: torch.device) -> Iterator[None]:
    """Within this, a device's fp32 products are computed as torch's flag `kind` says."""
    backends = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    before = backends.matmul.fp32_precision
    backends.matmul.fp32_precision = kind
    try:
        yield
    finally:
        backends.matmul.fp32_precision = before
