"""The precision of matrix multiplications, and loss scaling for fp16.

Weights, their updates and evaluation are always fp32. In bf16 and fp16, matrix multiplications
and the tensors that they pass to each other (logits, softmax, outputs of recurrent layers) have
the reduced precision.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ptblm.backend.loss_scaler import LossScaler
from ptblm.errors import UsageError


def allow_tf32(allowed: bool) -> None:
    """Sets for the whole process whether CUDA may round fp32 operands to tf32.

    torch allows it in cuDNN's recurrent layers by default; in ptblm, fp32 means fp32.
    """
    kind = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]


def use_deterministic_kernels() -> None:
    """Makes CUDA results bit-exact. Call this function before the first CUDA operation.

    Source: PyTorch documentation, "Reproducibility". cuBLAS reads the environment variable when
    it starts.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Filling new memory is a debugging aid that costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


class Precision:
    """Applies a precision on a device.

    Args:
        name: "fp32", "tf32", "bf16" or "fp16".
        device: the device of the run.

    Attributes:
        dtype: type of matrix-multiplication operands under autocast; None for fp32 and tf32.
        scaler: the loss scaler of fp16; None otherwise.

    Raises:
        UsageError: if the device does not support the precision.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name in ("tf32", "fp16") and device.type != "cuda":
            raise UsageError(
                f"--precision {name} requires a CUDA device; the run is on {device.type}",
                hint="pass --precision fp32 or --precision bf16",
            )
        self.name = name
        self.device = device
        self.scaler = LossScaler() if name == "fp16" else None
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
        allow_tf32(name == "tf32")

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Computes in fp32 inside the block, regardless of the training precision."""
        allow_tf32(False)
        try:
            yield
        finally:
            allow_tf32(self.name == "tf32")

    def autocast(self) -> AbstractContextManager[Any]:
        """Runs matrix multiplications in this precision inside the block."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    @property
    def loss_scale(self) -> float:
        """Factor that multiplies the loss and therefore the gradients; 1 except for fp16."""
        return 1.0 if self.scaler is None else self.scaler.scale
