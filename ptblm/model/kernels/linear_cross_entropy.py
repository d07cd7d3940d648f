"""A linear layer and its softmax cross-entropy, with the gradients computed in the forward pass.

The gradient of -log p(target) with respect to the logits is p - onehot(target). Therefore the
gradient overwrites the logits. This takes three matrix multiplications and one pass over [N, V],
and autograd keeps no copy of the logits. With the small config in fp32, this takes 85% of
autograd's time. Positions are processed in chunks, so memory does not grow with the vocabulary
(docs/performance.md).

Shapes: N positions, H features, V vocabulary, C positions in a chunk.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Elements of the logits in memory at a time: 32 MB in fp32. Half as many would accumulate the
# weight gradient twice as often, and a step of the medium config would take 2% longer.
_LOGITS_PER_CHUNK = 2**23
# With a large vocabulary, a chunk has at least this many rows of logits, because each chunk reads
# the weight, and reads and writes its gradient.
_MIN_ROWS = 128


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Computes `scale` times the summed cross-entropy of linear(features, weight, bias).

    Under autocast, matrix multiplications and the softmax use the autocast type.

    Args:
        features: [N, H]; N may be 0, and the gradient of the weight is then zero.
        weight: [V, H].
        bias: [V]; None for no bias.
        targets: ids, [N].
        scale: factor on the summed loss.

    Returns:
        The loss, a scalar; and -log p(target) in nats, [N], detached. On a CPU, p is rounded to the
        autocast type.
    """
    dtype = autocast_dtype(features.device.type, weight.dtype)
    with torch.autocast(features.device.type, enabled=False):
        loss, nll = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            features, weight, bias, targets, scale, dtype
        )
    return loss, nll


class _LinearCrossEntropy(torch.autograd.Function):
    """Autograd function of `linear_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        kernel, operand = weight.to(dtype), features.to(dtype)
        offset = None if bias is None else bias.to(dtype)
        positions = len(features)
        chunk_size = positions_per_chunk(positions, len(kernel))
        nll = torch.empty(positions, dtype=weight.dtype, device=features.device)
        d_features = torch.empty_like(operand) if ctx.needs_input_grad[0] else None
        d_weight = torch.empty_like(weight) if positions else torch.zeros_like(weight)
        d_bias = None if bias is None else torch.zeros_like(bias)
        rows = torch.arange(chunk_size, device=features.device)
        for start in range(0, positions, chunk_size):
            part = slice(start, start + chunk_size)
            x, target = operand[part], targets[part]  # [C, H], [C]
            at_target = rows[: len(x)], target
            logits = torch.mm(x, kernel.t())  # [C, V]
            if offset is not None:
                logits.add_(offset)
            p, nll[part] = _probabilities(logits, at_target, nll.dtype)
            if features.device.type == "cpu":
                _replace_underflow(nll[part], features[part], weight, bias, target)
            p[at_target] -= 1
            d_logits = p.mul_(scale).to(dtype)  # [C, V]
            if d_features is not None:
                torch.mm(d_logits, kernel, out=d_features[part])
            accumulate(d_weight, d_logits, x, first=start == 0)
            if d_bias is not None:
                # The sum for a frequent token may overflow fp16, which only CUDA supports.
                on_cpu = features.device.type == "cpu"
                d_bias += d_logits.sum(0) if on_cpu else d_logits.sum(0, dtype=d_bias.dtype)
        ctx.gradients = (
            None if d_features is None else d_features.to(features.dtype),
            d_weight,
            d_bias,
        )
        ctx.mark_non_differentiable(nll)
        ctx.set_materialize_grads(False)
        return nll.sum() * scale, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_loss: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
        return (*take_gradients(ctx, d_loss), None, None, None)


def positions_per_chunk(positions: int, vocab_size: int, rows_per_position: int = 1) -> int:
    """Returns the number of positions whose logits are in memory at a time.

    The logits of a chunk are at most `_LOGITS_PER_CHUNK` elements, or `_MIN_ROWS` rows if that is
    more, rounded up to whole positions. All chunks have nearly the same size.

    Args:
        positions: N.
        vocab_size: V.
        rows_per_position: softmaxes at each position.
    """
    limit = max(_LOGITS_PER_CHUNK, _MIN_ROWS * vocab_size)
    chunks = -(-positions * rows_per_position * vocab_size // limit)
    return max(1, -(-positions // max(1, min(chunks, positions))))


def _probabilities(
    logits: Tensor, at_target: tuple[Tensor, Tensor], dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Returns the softmax, [C, V], and -log p(target), [C]; overwrites the logits if possible."""
    if logits.device.type == "cpu":
        # Reusing the result of the softmax saves a pass.
        p = torch.softmax(logits, -1, out=logits)
        return p, -p[at_target].to(dtype).log()
    nll = functional.cross_entropy(logits.to(dtype), at_target[1], reduction="none")
    if logits.dtype == torch.float16:  # its range is too small for a sum over V terms
        return torch.softmax(logits, -1, dtype=torch.float32), nll
    return torch.softmax(logits, -1, out=logits), nll


def autocast_dtype(device_type: str, default: torch.dtype) -> torch.dtype:
    """Returns the type of matrix multiplications: `default`, unless autocast is enabled."""
    enabled = torch.is_autocast_enabled(device_type)
    return torch.get_autocast_dtype(device_type) if enabled else default


def take_gradients(ctx: Any, d_loss: Tensor | None) -> tuple[Tensor | None, ...]:
    """Returns the gradients that the forward pass left in `ctx.gradients`, times `d_loss`.

    Raises:
        RuntimeError: if they were already taken.
    """
    # Without another reference, autograd uses these tensors as .grad and does not copy them.
    gradients, ctx.gradients = ctx.gradients, None
    if gradients is None:
        raise RuntimeError("cross-entropy: backward was called twice; its gradients were freed")
    if d_loss is None:
        return (None,) * len(gradients)
    # `loss.backward()` passes 1. Only a CPU can check the value without a synchronization.
    if d_loss.device.type != "cpu" or d_loss != 1:
        for gradient in gradients:
            if gradient is not None:
                gradient.mul_(d_loss)
    return tuple(gradients)


def accumulate(d_weight: Tensor, d_logits: Tensor, x: Tensor, *, first: bool) -> None:
    """Adds a chunk's d_logits^T x to `d_weight`, [V, H]; the first chunk overwrites it."""
    if d_weight.dtype != x.dtype:  # bf16 is not precise enough to accumulate
        product = torch.mm(d_logits.t(), x)
        d_weight.copy_(product) if first else d_weight.add_(product)
    elif first:
        torch.mm(d_logits.t(), x, out=d_weight)
    else:
        d_weight.addmm_(d_logits.t(), x)


def _replace_underflow(
    nll: Tensor, features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
) -> None:
    """Recomputes each -log p with an underflowed p in the type of the weights."""
    underflow = nll.isinf()
    if underflow.any():
        logits = functional.linear(features[underflow].to(nll.dtype), weight, bias)
        nll[underflow] = functional.cross_entropy(logits, targets[underflow], reduction="none")
