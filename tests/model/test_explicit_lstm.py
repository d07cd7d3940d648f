"""The explicit LSTM kernel equals torch's LSTM, and the cell with a mask or a capped gate."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.kernels import explicit_lstm as kernel_module
from ptblm.model.kernels import fused as fused_module
from ptblm.model.kernels.explicit_lstm import ExplicitLSTM, _repeated_matmul
from ptblm.model.layers.recurrent import RecurrentLayer

SHAPES = [(1, 1, 1, 1), (5, 3, 7, 4), (9, 1, 2, 33), (1, 20, 8, 8)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("needed", ["outputs", "last state", "both"])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_lstm_of_torch(
    shape: tuple[int, int, int, int], needed: str, dtype: torch.dtype
) -> None:
    """Outputs, last state, and the gradient of every argument, the initial state included."""
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
    ours = list(ExplicitLSTM.apply(*given, None, False, dtype))  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=near, atol=near / 10)

    chosen = {"outputs": slice(0, 1), "last state": slice(1, 3), "both": slice(0, 3)}[needed]
    out = [torch.randn(part.shape, generator=source, dtype=dtype) for part in theirs[chosen]]
    our_gradients = torch.autograd.grad(ours[chosen], given, out)
    their_gradients = torch.autograd.grad(theirs[chosen], given, out)
    for one, other in zip(our_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=10 * near, atol=near)


def run(
    shape: tuple[int, ...], *, fused: bool, cap: bool, masked: bool, bf16: bool = False
) -> list[Tensor]:
    """Outputs, last state, and all gradients of a layer in float64, or in fp32 with bf16 GEMMs."""
    steps, batch, inputs, hidden = shape
    dtype = torch.float32 if bf16 else torch.float64
    cell = LSTMCell(inputs, hidden, forget_bias=0.5, cap_input_gate=cap).double()
    source = torch.Generator().manual_seed(0)
    cell.initialize(Initializer("uniform", 0.5), source)
    layer = RecurrentLayer(cell.to(dtype), fused=fused)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=source, dtype=torch.float64).to(dtype).requires_grad_()

    x, h, c = draw(steps, batch, inputs), draw(batch, hidden), draw(batch, hidden)
    mask = torch.rand(batch, hidden, generator=source, dtype=torch.float64) < 0.6
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        outputs, last = layer(x, (h, c), mask.to(dtype) / 0.6 if masked else None)
    cost = outputs.double().square().sum() + last[0].sum() + 2 * last[1].sum()
    return [outputs, *last, *torch.autograd.grad(cost, [x, h, c, *layer.parameters()])]


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("cap", [False, True], ids=["uncapped", "capped"])
@pytest.mark.parametrize("shape", SHAPES)
def test_mask_and_cap_equal_the_steps_of_the_cell(
    shape: tuple[int, ...], cap: bool, masked: bool
) -> None:
    theirs = run(shape, fused=False, cap=cap, masked=masked)
    for one, other in zip(run(shape, fused=True, cap=cap, masked=masked), theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("masked", [False, True], ids=["unmasked", "masked"])
@pytest.mark.parametrize("cap", [False, True], ids=["uncapped", "capped"])
@pytest.mark.parametrize("min_units", [1, 100], ids=["bf16", "fp32"])
def test_mixed_precision_has_the_precision_of_its_gemms(
    min_units: int, cap: bool, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small LSTM computes in fp32 even in a bf16 run."""
    monkeypatch.setattr(fused_module, "MIN_BF16_UNITS", min_units)
    options: dict[str, Any] = {"cap": cap, "masked": masked}
    found = run((9, 3, 5, 33), fused=True, bf16=True, **options)
    exact = run((9, 3, 5, 33), fused=False, **options)
    limit = 0.05 if min_units == 1 else 1e-5
    for one, other in zip(found, exact, strict=True):
        assert (one - other).norm() < limit * other.norm()
    if min_units == 1:
        assert found[0].dtype == torch.bfloat16
        assert {part.dtype for part in found[1:]} == {torch.float32}


def test_processor_without_bf16_support_uses_plain_matmul(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, x = torch.randn(6, 4).bfloat16(), torch.randn(3, 4).bfloat16()
    usual = x @ weight.t()
    torch.testing.assert_close(_repeated_matmul(weight, 3)(x), usual, rtol=0.02, atol=0.02)
    monkeypatch.setattr(kernel_module, "_can_reorder", lambda: False)
    assert torch.equal(_repeated_matmul(weight, 3)(x), usual)
