"""The precision of a run: which precision matrix products take, and loss scaling for fp16.

Weights, their updates and evaluation are fp32 throughout. Products take the precision, and so
does what they hand to each other: in bf16 and fp16 the logits, the fast step's softmax with them,
and the outputs of recurrent layers.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ptblm.backend.loss_scaler import LossScaler
from ptblm.errors import UsageError


def allow_tf32(allowed: bool) -> None:
    """Says for the whole process whether CUDA may round fp32 products' operands to tf32.

    torch lets cuDNN's recurrent layers do so unasked; fp32 here means fp32.
    """
    kind = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]


def use_deterministic_kernels() -> None:
    """Makes CUDA repeat itself bit for bit, for the whole process, before its first product.

    (docs.pytorch.org, notes on reproducibility; cuBLAS reads the variable when it starts.) torch
    would also fill all new memory, which finds programs that read what they have not written.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


class Precision:
    """Carries out a precision on a device.

    Args:
        name: "fp32", "tf32", "bf16" or "fp16".
        device: where the run computes.

    Attributes:
        operands: what the operands of products are narrowed to; None for not at all.
        scaler: of the loss; None where it needs none.

    Raises:
        UsageError: if the device does not have that precision.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name in ("tf32", "fp16") and device.type != "cuda":
            raise UsageError(
                f"--precision {name} needs a CUDA device; this run is on {device.type}",
                hint="--precision fp32 or bf16",
            )
        self.name = name
        self.device = device
        self.scaler = LossScaler() if name == "fp16" else None
        self.operands = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(name)
        allow_tf32(name == "tf32")

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within this, fp32 products are fp32: evaluation is the same for all precisions."""
        allow_tf32(False)
        try:
            yield
        finally:
            allow_tf32(self.name == "tf32")

    def products(self) -> AbstractContextManager[Any]:
        """Within this, matrix products take the run's precision."""
        if self.operands is None:
            return nullcontext()
        return torch.autocast(self.device.type, self.operands)

    @property
    def loss_scale(self) -> float:
        """The factor by which gradients are scaled up; 1 but for fp16."""
        return 1.0 if self.scaler is None else self.scaler.scale
