"""The arithmetic of a run: which precision matrix products take, and loss scaling for fp16.

Weights, their updates and the loss are fp32 throughout; only the products change.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from ptblm.errors import UsageError

# fp16 ends at 65,504, so its loss is scaled up to keep small gradients from vanishing, and the
# scale is halved when a gradient overflows. Below this scale the run has diverged.
SMALLEST_LOSS_SCALE = 2.0**-10


def allow_tf32(allowed: bool) -> None:
    """Says for the whole process whether CUDA may round fp32 products' operands to tf32.

    torch lets cuDNN's recurrent layers do so unasked; fp32 here means fp32.
    """
    kind = "tf32" if allowed else "ieee"
    torch.backends.cuda.matmul.fp32_precision = kind
    torch.backends.cudnn.rnn.fp32_precision = kind  # type: ignore[attr-defined]


class Arithmetic:
    """Carries out a precision on a device.

    Args:
        precision: "fp32", "tf32", "bf16" or "fp16".
        device: where the run computes.

    Raises:
        UsageError: if the device does not have that precision.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        if precision in ("tf32", "fp16") and device.type != "cuda":
            raise UsageError(
                f"--precision {precision} needs a CUDA device; this run is on {device.type}",
                hint="--precision fp32 or bf16",
            )
        self.precision = precision
        self.device = device
        self.scaler = torch.amp.GradScaler("cuda") if precision == "fp16" else None
        allow_tf32(precision == "tf32")

    @contextmanager
    def exact(self) -> Iterator[None]:
        """Within this, fp32 products are fp32: evaluation is the same for all precisions."""
        allow_tf32(False)
        try:
            yield
        finally:
            allow_tf32(self.precision == "tf32")

    def products(self) -> AbstractContextManager[Any]:
        """Within this, matrix products take the run's precision."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, torch.bfloat16)
        if self.precision == "fp16":
            return torch.autocast(self.device.type, torch.float16)
        return nullcontext()
