"""The capped input gate and chrono initialization of the LSTM."""

import math

import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.model.build import make_cell
from ptblm.model.cells.cell import Cell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer


def make(scale: float = 1.0, units: int = 16, **options: object) -> Cell:
    config = ModelConfig.model_validate({"cell": {"type": "lstm", **options}})
    cell = make_cell(config, 4, units)
    cell.initialize(Initializer("uniform", scale), torch.Generator().manual_seed(1))
    return cell


def largest_memory(cell: Cell, *, fused: bool) -> float:
    """The largest |c| of 100 time steps from zeros."""
    layer = RecurrentLayer(cell, fused=fused)
    x = 3 * torch.randn(100, 5, 4, generator=torch.Generator().manual_seed(2))
    found, state = 0.0, layer.initial_state(5)
    with torch.no_grad():
        for step in x:
            _, state = layer(step[None], state)
            found = max(found, state[1].abs().max().item())
    return found


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_capped_input_gate_bounds_the_memory(fused: bool) -> None:
    assert largest_memory(make(5.0, cap_input_gate=True, forget_bias=2.0), fused=fused) <= 1
    assert largest_memory(make(5.0, forget_bias=2.0), fused=fused) > 2


def test_capped_gate_is_the_minimum_of_i_and_1_minus_f() -> None:
    """With zero weights, the gates are those of the biases, and c' = f c + min(i, 1 - f) j."""
    cell = make(0.0, 1, cap_input_gate=True)
    for i, f in [(0.2, 0.9), (0.05, 0.9), (0.7, 0.3), (0.8, 0.3)]:
        logits = [math.log(i / (1 - i)), math.log(f / (1 - f)), 0.6, 0.0]
        with torch.no_grad():
            cell.get_parameter("gates.bias").copy_(torch.tensor(logits))
            x = cell.inputs(torch.zeros(1, 1, 4))[0]
            _, (_, c) = cell.step(x, (torch.zeros(1, 1), torch.full((1, 1), -0.4)))
        expected = -0.4 * f + min(i, 1 - f) * math.tanh(0.6)
        assert c.item() == pytest.approx(expected, rel=1e-5)


def test_chrono_steps_give_units_memories_of_all_lengths() -> None:
    """b_f = log u with u uniform in [1, T - 1], b_i = -b_f; the time constant is 1 + u."""
    i, f, j, o = make(units=5000, chrono_steps=41).get_parameter("gates.bias").chunk(4)
    assert torch.equal(i, -f)
    assert not j.any()
    assert not o.any()
    u = f.detach().double().exp()
    assert 1 <= u.min().item() < 1.1
    assert 39.9 < u.max().item() <= 40.001
    assert u.mean().item() == pytest.approx(20.5, abs=0.4)
    assert not make().get_parameter("gates.bias").any()
