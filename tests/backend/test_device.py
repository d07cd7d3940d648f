"""Device selection."""

import pytest
import torch

from ptblm.backend.device import select_device
from ptblm.errors import UsageError

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_auto_selects_cuda_if_available() -> None:
    selected = select_device("auto")
    assert selected.automatic
    assert torch.cuda.is_available() == (selected.device.type == "cuda")
    assert selected.device.type in str(selected)


@no_cuda
def test_auto_and_explicit_cpu_select_the_same_device() -> None:
    auto, explicit = select_device("auto"), select_device("cpu")
    assert (auto.device, auto.hardware, auto.threads) == (
        explicit.device,
        explicit.hardware,
        explicit.threads,
    )
    assert "no CUDA device found" in str(auto)
    assert "no CUDA device found" not in str(explicit)


@no_cuda
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_missing_device_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=f"--device {name}: torch finds no CUDA device"):
        select_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:1", "meta", ""])
def test_unknown_device_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match="expected auto, cpu, cuda, cuda:N or mps"):
        select_device(name)
