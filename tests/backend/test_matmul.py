"""Who computes fp32 products: exactness, the choice, and that a run keeps it."""

import sys

import pytest
import torch

from ptblm.backend import matmul as products_module
from ptblm.backend.matmul import (
    choose_products,
    onednn_is_exact,
    products_by,
    products_phrase,
    start_products,
)

CPU = torch.device("cpu")

needs_onednn = pytest.mark.skipif(not onednn_is_exact(), reason="oneDNN is absent, or rounds")


def test_both_ways_are_exact_for_all_shapes() -> None:
    torch.manual_seed(0)
    for sizes in [(1, 1, 1), (20, 200, 800), (400, 37, 1001), (3, 650, 1), (1, 1500, 64)]:
        rows, inner, columns = sizes
        x, w = torch.randn(rows, inner), torch.randn(columns, inner)
        exact = x.double() @ w.double().t()
        scale = exact.abs().max().item()
        for way in ("torch", "onednn") if onednn_is_exact() else ("torch",):
            with products_by(way):
                assert (x @ w.t() - exact).abs().max().item() <= 3e-6 * scale, (way, sizes)
                kept = (x.t() @ (x @ w.t())).double()  # a transposed operand
            again = x.t().double() @ exact
            assert (kept - again).abs().max().item() <= 3e-6 * again.abs().max().item()


@pytest.mark.parametrize("amd", [True, False])
def test_onednn_is_taken_where_mkl_is_slow(amd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products_module, "_mkl_is_slow", lambda: amd)
    assert choose_products() == ("onednn" if amd and onednn_is_exact() else "torch")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo")
def test_the_processor_is_asked() -> None:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        assert products_module._is_amd() == ("AuthenticAMD" in file.read())


def test_onednn_is_never_taken_where_it_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor with matrix units for bf16; an error of that size stands in for them."""
    monkeypatch.setattr(products_module, "_LARGEST_ERROR", 1e-9)
    monkeypatch.setattr(products_module, "_mkl_is_slow", lambda: True)
    assert not onednn_is_exact()
    assert choose_products() == choose_products("onednn") == "torch"


def test_bf16_would_be_noticed() -> None:
    """Products of bf16 operands err by far more than what passes for fp32."""
    x, w = products_module._operands()
    exact = x.double() @ w.double()
    rounded = (x.bfloat16().float() @ w.bfloat16().float() - exact).abs().max() / exact.abs().max()
    assert rounded > 100 * products_module._LARGEST_ERROR


@needs_onednn
@pytest.mark.parametrize("amd", [True, False])
def test_a_run_keeps_what_it_began_with(amd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products_module, "_mkl_is_slow", lambda: amd)
    assert choose_products("torch") == "torch"
    assert choose_products("onednn") == "onednn"


@needs_onednn
def test_the_choice_is_said_and_ends_with_the_block() -> None:
    with products_by("torch"):
        way = start_products(CPU, "onednn")
        assert way == "onednn"
        assert products_module._ONEDNN.fp32_precision == "bf16"
        assert products_phrase(way) == "; products by oneDNN"
        assert start_products(CPU, "torch") == "torch"
        assert products_phrase("torch") == ""
        before = products_module._ONEDNN.fp32_precision
        with products_by("onednn"):
            assert products_module._ONEDNN.fp32_precision != before
        assert products_module._ONEDNN.fp32_precision == before


@pytest.mark.parametrize("amd", [True, False])
def test_a_gpu_leaves_the_choice_to_the_cpu_that_goes_on(
    amd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products_module, "_mkl_is_slow", lambda: amd)
    with products_by("torch"):
        way = start_products(torch.device("cuda"), "onednn")
        assert (way, products_phrase(way)) == ("device", "")
        assert products_module._ONEDNN.fp32_precision == "none"
        assert start_products(CPU, way) == choose_products()
