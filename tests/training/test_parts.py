"""The small parts of training: clipping, randomness, device and precision."""

import math

import pytest
import torch
from torch import nn

from ptblm.backend.device import choose_device
from ptblm.backend.loss_scaler import LossScaler
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import derive_seed
from ptblm.errors import UsageError
from ptblm.training.clipping import clip_coefficient, global_norm
from ptblm.training.optimizer import SGD


def parameters_with_gradients(*values: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(value))) for value in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(value)
    return parameters


def test_the_norm_is_over_all_gradients() -> None:
    parameters = parameters_with_gradients([3.0], [0.0, 4.0])
    assert global_norm(parameters).item() == 5.0


@pytest.mark.parametrize(("max_norm", "factor"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0)])
def test_the_clip_scales_all_alike_and_only_down(max_norm: float, factor: float) -> None:
    parameters = parameters_with_gradients([3.0], [0.0, 4.0])
    clip = clip_coefficient(float(global_norm(parameters)), max_norm)
    SGD(parameters).step(2.0, clip)
    weights = [parameter.tolist() for parameter in parameters]
    assert weights == [[-2 * 3.0 * factor], [0.0, -2 * 4.0 * factor]]


def test_a_zero_gradient_is_not_divided_by() -> None:
    assert clip_coefficient(0.0, 1.0) == 1.0


def test_seeds_depend_on_all_three_and_do_not_collide() -> None:
    """Plain seed + step would make step 2 of seed 1 share its masks with step 1 of seed 2."""
    seeds = {
        derive_seed(seed, purpose, step)
        for seed in range(20)
        for purpose in ("dropout", "initial weights")
        for step in range(200)
    }
    assert len(seeds) == 20 * 2 * 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "dropout", 2) == derive_seed(1, "dropout", 2)


def test_auto_says_what_it_chose() -> None:
    device, description = choose_device("auto")
    assert device.type in description
    assert torch.cuda.is_available() == (device.type == "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_an_absent_device_is_an_error_and_never_replaced(name: str) -> None:
    with pytest.raises(UsageError, match="no CUDA device"):
        choose_device(name)


@pytest.mark.parametrize("precision", ["tf32", "fp16"])
def test_cuda_precisions_are_refused_on_the_cpu(precision: str) -> None:
    with pytest.raises(UsageError, match="needs a CUDA device"):
        Precision(precision, torch.device("cpu"))


def test_bf16_is_for_the_products_alone() -> None:
    weight = torch.randn(8, 8)
    with Precision("bf16", torch.device("cpu")).products():
        product = weight @ weight
    assert product.dtype == torch.bfloat16
    assert weight.dtype == torch.float32
    with Precision("fp32", torch.device("cpu")).products():
        assert (weight @ weight).dtype == torch.float32


def test_clipping_by_a_norm_that_is_not_finite_is_left_to_the_caller() -> None:
    """`train_step` refuses such a norm before it gets here; see test_trainer."""
    assert math.isnan(global_norm(parameters_with_gradients([math.nan])).item())


def test_the_loss_scale_follows_the_gradients() -> None:
    scaler = LossScaler()
    first = scaler.scale
    scaler.update(overflowed=True)
    assert scaler.scale == first / 2
    for _ in range(2000):
        scaler.update(overflowed=False)
    assert scaler.scale == first
    restored = LossScaler()
    restored.load_state_dict(scaler.state_dict())
    assert restored.state_dict() == scaler.state_dict()
    while scaler.can_back_off():
        scaler.update(overflowed=True)
    assert scaler.scale == 2.0**-10
