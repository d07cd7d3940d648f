"""The bf16 LSTM kernel: with operands in full precision it equals torch's LSTM."""

import pytest
import torch

from ptblm.model.kernels import bf16_lstm as kernel_module
from ptblm.model.kernels.bf16_lstm import Bf16LSTM, _repeated_matmul


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needed", ["outputs", "last state", "both"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 7, 4), (9, 1, 2, 33), (1, 20, 8, 8)])
def test_equals_the_lstm_of_torch(
    shape: tuple[int, int, int, int],
    needed: str,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Outputs, last state, and the gradient of every argument, the initial state included."""
    monkeypatch.setattr(kernel_module, "_OPERAND", dtype)
    near = 1e-5 if dtype == torch.float32 else 1e-13
    steps, batch, inputs, hidden = shape
    source = torch.Generator().manual_seed(0)
    sizes = [(steps, batch, inputs), (batch, hidden), (batch, hidden)]
    sizes += [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,)]
    given = [torch.randn(size, generator=source, dtype=dtype).requires_grad_() for size in sizes]
    x, h, c, w, u, bias = given
    start, weights = [h[None], c[None]], [w, u, bias, torch.zeros_like(bias)]
    outputs, last_h, last_c = torch.lstm(x, start, weights, True, 1, 0.0, True, False, False)
    theirs = [outputs, last_h[0], last_c[0]]
    ours = list(Bf16LSTM.apply(*given))  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=near, atol=near / 10)

    chosen = {"outputs": slice(0, 1), "last state": slice(1, 3), "both": slice(0, 3)}[needed]
    out = [torch.randn(part.shape, generator=source, dtype=dtype) for part in theirs[chosen]]
    our_gradients = torch.autograd.grad(ours[chosen], given, out)
    their_gradients = torch.autograd.grad(theirs[chosen], given, out)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * near, atol=near)


def test_processor_without_bf16_support_uses_plain_matmul(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, x = torch.randn(6, 4).bfloat16(), torch.randn(3, 4).bfloat16()
    usual = x @ weight.t()
    torch.testing.assert_close(_repeated_matmul(weight, 3)(x), usual, rtol=0.02, atol=0.02)
    monkeypatch.setattr(kernel_module, "_can_reorder", lambda: False)
    assert torch.equal(_repeated_matmul(weight, 3)(x), usual)
