"""The matmul backend: accuracy, selection, and that a run keeps its backend."""

import sys

import pytest
import torch

from ptblm.backend import matmul as matmul_module
from ptblm.backend.matmul import (
    MatmulBackend,
    onednn_is_accurate,
    preferred_matmul_backend,
    select_matmul_backend,
    use_matmul_backend,
)

CPU = torch.device("cpu")

needs_onednn = pytest.mark.skipif(
    not onednn_is_accurate(), reason="oneDNN is not available or not accurate here"
)


def test_every_backend_is_accurate_for_all_shapes() -> None:
    torch.manual_seed(0)
    backends: list[MatmulBackend] = ["default"]
    backends += ["onednn"] if onednn_is_accurate() else []
    for rows, inner, columns in [
        (1, 1, 1),
        (20, 200, 800),
        (400, 37, 1001),
        (3, 650, 1),
        (1, 1500, 64),
    ]:
        x, w = torch.randn(rows, inner), torch.randn(columns, inner)
        exact = x.double() @ w.double().t()
        again = x.t().double() @ exact
        for backend in backends:
            with use_matmul_backend(backend):
                product = x @ w.t()
                transposed = (x.t() @ product).double()  # with a transposed operand
            assert (product - exact).abs().max() <= 3e-6 * exact.abs().max(), backend
            assert (transposed - again).abs().max() <= 3e-6 * again.abs().max(), backend


@pytest.mark.parametrize("amd", [True, False])
def test_onednn_is_selected_where_mkl_is_slow(amd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_module, "_mkl_is_slow", lambda: amd)
    expected = "onednn" if amd and onednn_is_accurate() else "default"
    assert preferred_matmul_backend() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_processor_vendor_is_detected() -> None:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        assert matmul_module._is_amd() == ("AuthenticAMD" in file.read())


def test_inaccurate_onednn_is_never_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor with bf16 matrix units; a lower bound simulates its error."""
    monkeypatch.setattr(matmul_module, "_MAX_ERROR", 1e-9)
    monkeypatch.setattr(matmul_module, "_mkl_is_slow", lambda: True)
    assert not onednn_is_accurate()
    assert preferred_matmul_backend() == preferred_matmul_backend("onednn") == "default"


def test_accuracy_check_detects_bf16() -> None:
    """bf16 operands have an error far above the bound."""
    x, w = matmul_module._example_operands()
    exact = x.double() @ w.double()
    rounded = (x.bfloat16().float() @ w.bfloat16().float() - exact).abs().max() / exact.abs().max()
    assert rounded > 100 * matmul_module._MAX_ERROR


@needs_onednn
@pytest.mark.parametrize("amd", [True, False])
def test_run_keeps_its_backend(amd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_module, "_mkl_is_slow", lambda: amd)
    assert preferred_matmul_backend("default") == "default"
    assert preferred_matmul_backend("onednn") == "onednn"


@needs_onednn
def test_selection_is_set_and_block_is_restored() -> None:
    assert select_matmul_backend(CPU, "onednn") == "onednn"
    assert matmul_module._ONEDNN.fp32_precision == "bf16"
    assert select_matmul_backend(CPU, "default") == "default"
    before = matmul_module._ONEDNN.fp32_precision
    with use_matmul_backend("onednn"):
        assert matmul_module._ONEDNN.fp32_precision != before
    assert matmul_module._ONEDNN.fp32_precision == before


def test_gpu_uses_the_default_backend() -> None:
    assert select_matmul_backend(torch.device("cuda"), "onednn") == "default"
    assert matmul_module._ONEDNN.fp32_precision == "none"
