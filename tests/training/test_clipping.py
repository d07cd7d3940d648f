"""Gradient clipping."""

import math

import pytest
import torch
from torch import nn

from ptblm.training.clipping import clip_coefficient, clip_coefficient_on_device, global_norm
from ptblm.training.optimizer import SGD


def parameters_with_gradients(*values: list[float]) -> dict[str, nn.Parameter]:
    parameters = {str(i): nn.Parameter(torch.zeros(len(v))) for i, v in enumerate(values)}
    for parameter, value in zip(parameters.values(), values, strict=True):
        parameter.grad = torch.tensor(value)
    return parameters


def test_norm_covers_all_gradients() -> None:
    parameters = parameters_with_gradients([3.0], [0.0, 4.0])
    assert global_norm(parameters.values()).item() == 5.0


def test_norm_without_gradients_is_zero() -> None:
    assert global_norm([nn.Parameter(torch.zeros(3))]).item() == 0


def test_norm_of_a_large_gradient_is_exact() -> None:
    """Torch's own float32 norm of this tensor is too low by 4e-4 or more on a CPU."""
    parameter = nn.Parameter(torch.empty(10_000, 1_500))
    generator = torch.Generator().manual_seed(0)
    parameter.grad = torch.randn(parameter.shape, generator=generator)
    exact = math.sqrt(sum(row.double().square().sum().item() for row in parameter.grad))
    assert global_norm([parameter]).item() == pytest.approx(exact, rel=1e-7)


def test_norm_of_a_sparse_gradient_equals_the_dense_norm() -> None:
    parameter = nn.Parameter(torch.zeros(9, 4))
    dense = torch.zeros(9, 4)
    dense[[1, 5]] = torch.randn(2, 4)
    parameter.grad = dense
    expected = global_norm([parameter])
    parameter.grad = dense.to_sparse(1)
    torch.testing.assert_close(global_norm([parameter]), expected)


def test_nonfinite_norm_is_returned() -> None:
    """`train_step` then makes no update."""
    parameters = parameters_with_gradients([math.nan])
    assert math.isnan(global_norm(parameters.values()).item())


@pytest.mark.parametrize(("max_norm", "factor"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0)])
def test_clipping_scales_all_gradients_down_alike(max_norm: float, factor: float) -> None:
    parameters = parameters_with_gradients([3.0], [0.0, 4.0])
    clip = clip_coefficient(float(global_norm(parameters.values())), max_norm)
    SGD(parameters).step(2.0, clip)
    weights = [parameter.tolist() for parameter in parameters.values()]
    assert weights == [[-2 * 3.0 * factor], [0.0, -2 * 4.0 * factor]]


def test_zero_gradient_is_not_a_division_by_zero() -> None:
    assert clip_coefficient(0.0, 1.0) == 1.0


@pytest.mark.parametrize("norm", [0.0, 1e-3, 0.5, 7.25, 1e30, float("inf")])
def test_device_and_host_clip_alike(norm: float) -> None:
    on_device = clip_coefficient_on_device(torch.tensor(norm, dtype=torch.float64), 0.5)
    assert on_device.item() == pytest.approx(clip_coefficient(norm, 0.5), rel=1e-15)
