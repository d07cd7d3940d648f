"""Chooses who computes a CPU's fp32 matrix products: torch's default, or oneDNN.

torch sends them to MKL, which takes a slow way on processors that are not Intel's. oneDNN is in
the same wheel; on AMD's Zen 5 it was measured to be 1.9 to 2.3 times as fast (docs/performance.md).
What it is asked through allows bf16 inside, which it uses only on processors with matrix units for
it; so the error is measured first, and what is not fp32 is not taken.
"""

import contextlib
import platform
from collections.abc import Iterator
from typing import Any, Literal

import torch

# "device": of a run that computes on no CPU.
Products = Literal["torch", "onednn", "device"]

# fp32 sums of a few hundred terms err by 1e-6 and less, sums of bf16 products by 1e-3.
_LARGEST_ERROR = 1e-5


# torch's name for how precise the operands of oneDNN's products must be.
_ONEDNN: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def start_products(device: torch.device, before: str | None) -> Products:
    """Chooses who computes fp32 products, for the whole process from now on.

    Args:
        device: that the run computes on.
        before: as for `choose_products`.
    """
    products: Products = choose_products(before) if device.type == "cpu" else "device"
    _use(products)
    return products


def products_phrase(products: Products) -> str:
    """What there is to add to a device's description."""
    return "; products by oneDNN" if products == "onednn" else ""


@contextlib.contextmanager
def products_by(products: Products) -> Iterator[None]:
    """Within this, fp32 products are computed this way."""
    before = _ONEDNN.fp32_precision
    _use(products)
    try:
        yield
    finally:
        _ONEDNN.fp32_precision = before


def choose_products(before: str | None = None) -> Products:
    """Takes oneDNN where MKL is known to be slow, if it is exact there.

    Timing the two would say it as well, but not always the same: on a busy machine the same seed
    would now and then give other last digits.

    Args:
        before: what a run has used so far, which it keeps if it can, for the same reason; None,
            or "device", of one that has not computed on a CPU yet.
    """
    wanted = before == "onednn" if before in ("onednn", "torch") else _mkl_is_slow()
    return "onednn" if wanted and onednn_is_exact() else "torch"


def onednn_is_exact() -> bool:
    """Whether oneDNN is there, and computes fp32 products in fp32 on this processor."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    x, w = _operands()
    exact = x.double() @ w.double()
    with products_by("onednn"):
        error = (x @ w - exact).abs().max() / exact.abs().max()
    return error.item() < _LARGEST_ERROR


def _operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 256, generator=generator)
    return x, torch.randn(2048, 256, generator=generator).t()


def _mkl_is_slow() -> bool:
    """Whether this is an AMD processor with AVX-512, without which torch has no oneDNN for it."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability() and _is_amd()


def _is_amd() -> bool:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return any(line.split()[-1:] == ["AuthenticAMD"] for line in file)
    return "AuthenticAMD" in platform.processor()  # which is where Windows says it


def _use(products: Products) -> None:
    _ONEDNN.fp32_precision = "bf16" if products == "onednn" else "none"
