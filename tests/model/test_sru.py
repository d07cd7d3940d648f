"""SRU agrees with a plain NumPy loop, carries its state exactly, and multiplies once."""

import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.cells.sru import SRUCell
from ptblm.model.initializers import Initializer
from ptblm.model.kernels.sru import SRURecurrence
from ptblm.model.layers.recurrent import RecurrentLayer


def make_layer(input_size: int, hidden_size: int, *, fused: bool = True) -> RecurrentLayer:
    cell = SRUCell(input_size, hidden_size).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in cell.parameters():
        torch.nn.init.uniform_(parameter, -1, 1, generator)
    return RecurrentLayer(cell, fused=fused)


def inputs_of(layer: RecurrentLayer, steps: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = (steps, 2, layer.cell.input_size), (2, layer.cell.hidden_size)
    x, c = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return x, c


@pytest.mark.parametrize("fused", [False, True], ids=["unfused", "fused"])
@pytest.mark.parametrize("input_size", [3, 5])
def test_matches_a_plain_numpy_loop(input_size: int, fused: bool) -> None:
    layer = make_layer(input_size, 3, fused=fused)
    weight, bias = (parameter.detach().numpy() for parameter in layer.cell.parameters())
    bias_f, bias_r = np.split(bias, 2)
    x, start = inputs_of(layer)
    with torch.no_grad():
        outputs, (last,) = layer(x, (start,))

    def sigmoid(value: Any) -> Any:
        return 1 / (1 + np.exp(-value))

    for row in range(2):
        c = start[row].numpy()
        for t in range(len(x)):
            token = x[t, row].numpy()
            z, f, r, *skip = np.split(weight @ token, len(weight) // 3)
            f, r = sigmoid(f + bias_f), sigmoid(r + bias_r)
            c = f * c + (1 - f) * z
            h = r * c + (1 - r) * (skip[0] if skip else token)
            np.testing.assert_allclose(outputs[t, row], h, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last[row], c, rtol=1e-12, atol=1e-14)


def test_windows_of_any_length_carry_the_state_exactly() -> None:
    scan: Callable[..., Any] = SRURecurrence.apply
    layer = make_layer(8, 8)  # a multiple of the vector size: the rest is rounded differently
    x, start = inputs_of(layer, 24)
    with torch.no_grad():
        projected, skip = cast(SRUCell, layer.cell).projections(x)
        whole, last = scan(projected, skip, start)
        for length in (1, 5, 23):
            c, parts = start, []
            for part in zip(projected.split(length), skip.split(length), strict=True):
                outputs, c = scan(*part, c)
                parts.append(outputs)
            assert torch.equal(torch.cat(parts), whole)
            assert torch.equal(c, last)


@pytest.mark.parametrize("needed", ["outputs", "state"])
def test_gradient_of_one_result_matches_finite_differences(needed: str) -> None:
    """The kernel receives no gradient for the other result."""
    layer = make_layer(3, 3)
    x, c = (part.requires_grad_() for part in inputs_of(layer, 4))

    def chosen(x: torch.Tensor, c: torch.Tensor) -> Any:
        outputs, (last,) = layer(x, (c,))
        return outputs if needed == "outputs" else last

    assert torch.autograd.gradcheck(chosen, (x, c), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("input_size", "matrices"), [(8, 3), (6, 4)])
def test_all_time_steps_share_one_matrix_multiplication(input_size: int, matrices: int) -> None:
    layer = make_layer(input_size, 8)
    x, c = inputs_of(layer, 50)
    with FlopCounterMode(display=False) as counter:
        layer(x, (c,))
    (counts,) = {tuple(per_op.items()) for per_op in counter.get_flop_counts().values()}
    ((_, flops),) = counts
    assert flops == 2 * 50 * 2 * input_size * matrices * 8
    assert layer.kernel == "fused"


def test_initialization_is_that_of_the_authors() -> None:
    cell = SRUCell(300, 200, highway_bias=-2.0)
    cell.initialize(Initializer("uniform", 0.01), torch.Generator().manual_seed(3))
    assert cell.weight_ih.shape == (800, 300)
    assert cell.weight_ih.abs().max().item() == pytest.approx(math.sqrt(3 / 300), rel=1e-3)
    assert cell.weight_ih.var().item() == pytest.approx(1 / 300, rel=0.02)
    assert cell.bias.tolist() == [0.0] * 200 + [-2.0] * 200


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("recurrent_state", "sru keeps its memory in the hidden state"),
        ("recurrent_weights", "sru has no weights of the hidden state"),
    ],
)
def test_dropout_of_recurrent_connections_is_an_error(key: str, message: str) -> None:
    config = ModelConfig.model_validate({"cell": {"type": "sru"}, "dropout": {key: 0.1}})
    with pytest.raises(ConfigError, match=message):
        build_model(config, 10)


def test_negative_highway_bias_copies_the_input() -> None:
    layer = make_layer(3, 3)
    x, c = inputs_of(layer)
    with torch.no_grad():
        layer.cell.get_parameter("bias")[3:] = -60.0
        outputs, _ = layer(x, (c,))
    torch.testing.assert_close(outputs, x, rtol=1e-12, atol=1e-14)
