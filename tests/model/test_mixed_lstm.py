"""Our own LSTM kernel: with fp32 operands it must be torch's, to the last digits."""

import pytest
import torch

from ptblm.model import mixed_lstm as mixed_lstm_module
from ptblm.model.mixed_lstm import MixedLSTM


@pytest.mark.parametrize("needed", ["outputs", "last state", "both"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (5, 3, 7, 4), (9, 1, 2, 33), (1, 20, 8, 8)])
def test_equals_torchs(
    shape: tuple[int, int, int, int], needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs, last state, and the gradients of all that goes in, the start state included."""
    monkeypatch.setattr(mixed_lstm_module, "_OPERAND", torch.float32)
    steps, batch, inputs, hidden = shape
    source = torch.Generator().manual_seed(0)
    sizes = [(steps, batch, inputs), (batch, hidden), (batch, hidden)]
    sizes += [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,)]
    given = [torch.randn(size, generator=source).requires_grad_() for size in sizes]
    x, h, c, w, u, bias = given
    start, weights = [h[None], c[None]], [w, u, bias, torch.zeros_like(bias)]
    outputs, last_h, last_c = torch.lstm(x, start, weights, True, 1, 0.0, True, False, False)
    theirs = [outputs, last_h[0], last_c[0]]
    ours = list(MixedLSTM.apply(*given))  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)

    chosen = {"outputs": slice(0, 1), "last state": slice(1, 3), "both": slice(0, 3)}[needed]
    out = [torch.randn(part.shape, generator=source) for part in theirs[chosen]]
    our_gradients = torch.autograd.grad(ours[chosen], given, out)
    their_gradients = torch.autograd.grad(theirs[chosen], given, out)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
