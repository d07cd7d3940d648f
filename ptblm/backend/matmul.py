"""Selects the library that computes fp32 matrix multiplications on a CPU.

By default torch uses MKL, which takes a slow code path on non-Intel processors. oneDNN is part of
the same wheel and is 1.9x-2.3x as fast on AMD Zen 5 (docs/performance.md). The torch setting that
selects oneDNN also allows bf16 internally, which oneDNN uses on processors with bf16 matrix units.
Therefore the error is measured first, and oneDNN is used only if its results have fp32 accuracy.
"""

import contextlib
import logging
import platform
from collections.abc import Iterator
from typing import Any, Literal

import torch

logger = logging.getLogger(__name__)

# "default" is the default of torch: MKL on most CPUs, cuBLAS on CUDA.
MatmulBackend = Literal["default", "onednn"]

# Relative error. fp32 sums of a few hundred terms reach 1e-6; sums of bf16 products, 1e-3.
_MAX_ERROR = 1e-5

# torch's setting for the precision of oneDNN's operands.
_ONEDNN: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]


def select_matmul_backend(
    device: torch.device, previous: MatmulBackend | None = None
) -> MatmulBackend:
    """Selects the matmul backend of the whole process and returns it.

    Args:
        device: the device of the process.
        previous: see `preferred_matmul_backend`.
    """
    on_cpu = device.type == "cpu"
    backend: MatmulBackend = preferred_matmul_backend(previous) if on_cpu else "default"
    _set(backend)
    if on_cpu:
        reason = "as before in this run" if previous else "chosen for this processor"
        logger.debug("library of matrix multiplications: %s, %s", backend, reason)
    return backend


def preferred_matmul_backend(previous: MatmulBackend | None = None) -> MatmulBackend:
    """Returns "onednn" if MKL is slow on this processor and oneDNN is accurate.

    The choice depends on the processor, not on a timing. Timings vary on a busy machine, so the
    rounding of a run could change when it is resumed.

    Args:
        previous: the backend that the run used on a CPU so far and keeps if possible; None if it
            has not run on a CPU.
    """
    wanted = _mkl_is_slow() if previous is None else previous == "onednn"
    return "onednn" if wanted and onednn_is_accurate() else "default"


@contextlib.contextmanager
def use_matmul_backend(backend: MatmulBackend) -> Iterator[None]:
    """Uses a backend inside the block."""
    before = _ONEDNN.fp32_precision
    _set(backend)
    try:
        yield
    finally:
        _ONEDNN.fp32_precision = before


def onednn_is_accurate() -> bool:
    """Returns whether oneDNN is available and computes in fp32 on this processor."""
    if not torch.backends.mkldnn.is_available():
        return False
    x, w = _example_operands()
    exact = x.double() @ w.double()
    with use_matmul_backend("onednn"):
        error = (x @ w - exact).abs().max() / exact.abs().max()
    return error.item() < _MAX_ERROR


def _example_operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 256, generator=generator)
    return x, torch.randn(2048, 256, generator=generator).t()


def _mkl_is_slow() -> bool:
    """Returns whether this is an AMD processor with AVX-512, which oneDNN in torch requires."""
    return "AVX512" in torch.backends.cpu.get_cpu_capability() and _is_amd()


def _is_amd() -> bool:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        return any(line.split()[-1:] == ["AuthenticAMD"] for line in file)
    return "AuthenticAMD" in platform.processor()  # Windows


def _set(backend: MatmulBackend) -> None:
    _ONEDNN.fp32_precision = "bf16" if backend == "onednn" else "none"
