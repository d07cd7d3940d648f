"""Precision of matrix multiplications, and loss scaling."""

import pytest
import torch

from ptblm.backend.loss_scaler import LossScaler
from ptblm.backend.precision import Precision
from ptblm.errors import UsageError


@pytest.mark.parametrize("name", ["tf32", "fp16"])
def test_cuda_precision_is_an_error_on_the_cpu(name: str) -> None:
    with pytest.raises(UsageError, match=f"--precision {name} requires a CUDA device"):
        Precision(name, torch.device("cpu"))


def test_bf16_applies_to_matrix_multiplications_only() -> None:
    weight = torch.randn(8, 8)
    with Precision("bf16", torch.device("cpu")).autocast():
        product = weight @ weight
        total = weight + weight
    assert product.dtype == torch.bfloat16
    assert total.dtype == weight.dtype == torch.float32
    with Precision("fp32", torch.device("cpu")).autocast():
        assert (weight @ weight).dtype == torch.float32


def test_loss_scale_follows_the_gradients() -> None:
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


def test_loss_scale_fails_below_its_minimum() -> None:
    scaler = LossScaler()
    while scaler.scale > 2.0**-10:
        scaler.update(overflowed=True)
        assert not scaler.has_failed
    scaler.update(overflowed=True)
    assert scaler.has_failed
