"""Chooses who computes a CPU's fp32 matrix products: torch's default, or oneDNN.

torch sends them to MKL, which takes a slow way on processors that are not Intel's. oneDNN is in
the same wheel; on AMD's Zen 5 it was measured to be 2.0 to 2.3 times as fast (docs/performance.md).
What it is asked through allows bf16 inside, which it uses only on processors with matrix units for
it; so the error is measured first, and what is not fp32 is not taken.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, Literal

import torch

Products = Literal["torch", "onednn"]

# fp32 sums of a few hundred terms err by 1e-6 and less, sums of bf16 products by 1e-3.
_LARGEST_ERROR = 1e-5
_GAIN_WORTH_TAKING = 1.1
_ROWS, _INNER, _COLUMNS = 400, 256, 2048


# torch's name for how precise the operands of oneDNN's products must be.
_ONEDNN: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def start_products(
    device: torch.device, description: str, before: str | None
) -> tuple[Products, str]:
    """Chooses who computes fp32 products from now on, and adds that to the device's phrase.

    Args:
        device: that the run computes on.
        description: of it.
        before: as for `choose_products`.
    """
    products: Products = choose_products(before) if device.type == "cpu" else "torch"
    _use(products)
    return products, description + ("; products by oneDNN" if products == "onednn" else "")


@contextmanager
def products_by(products: Products) -> Iterator[None]:
    """Within this, fp32 products are computed this way."""
    before = _ONEDNN.fp32_precision
    _use(products)
    try:
        yield
    finally:
        _ONEDNN.fp32_precision = before


def choose_products(before: str | None = None) -> Products:
    """The faster of the two here, oneDNN only if it is exact; decided in some 50 milliseconds.

    Args:
        before: what a run has used so far, which it keeps if it can: the two differ in the last
            bits.
    """
    if before == "torch" or not onednn_is_exact():
        return "torch"
    if before == "onednn":
        return "onednn"
    x, w = _operands()
    gain = _seconds("torch", lambda: x @ w) / _seconds("onednn", lambda: x @ w)
    return "onednn" if gain >= _GAIN_WORTH_TAKING else "torch"


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
    x = torch.randn(_ROWS, _INNER, generator=generator)
    return x, torch.randn(_COLUMNS, _INNER, generator=generator).t()


def _seconds(products: Products, product: Callable[[], object]) -> float:
    times = []
    with products_by(products):
        product()  # the first call makes the kernel
        for _ in range(5):
            start = time.perf_counter()
            product()
            times.append(time.perf_counter() - start)
    return median(times)


def _use(products: Products) -> None:
    _ONEDNN.fp32_precision = "bf16" if products == "onednn" else "none"
