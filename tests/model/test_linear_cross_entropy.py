"""The fused loss: loss and gradients equal autograd's, for any chunk, shape and type."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptblm.model.heads.softmax import Softmax
from ptblm.model.kernels import linear_cross_entropy as kernel_module


def make_head(
    positions: int, features: int, vocab_size: int, dtype: torch.dtype = torch.float32
) -> tuple[Softmax, Tensor, Tensor]:
    """A head, features and targets."""
    head = Softmax(features, vocab_size)
    head.initialize(0.5, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(positions, features, generator=generator)
    targets = torch.randint(vocab_size, (positions,), generator=generator)
    return head.to(dtype), x.to(dtype).requires_grad_(), targets


def gradients(
    head: Softmax, x: Tensor, targets: Tensor, *, fused: bool, scale: float = 1.0, factor: Any = 1
) -> list[Tensor]:
    """Loss, nll, and the gradients of features, weight and bias."""
    head.fused = fused
    head.zero_grad(set_to_none=True)
    x.grad = None
    loss, nll = head.loss(x, targets, scale)
    (loss * factor).backward()
    assert not nll.requires_grad
    assert x.grad is not None
    assert head.weight.grad is not None
    assert head.bias.grad is not None
    return [loss.detach(), nll, x.grad, head.weight.grad, head.bias.grad]


@pytest.mark.parametrize("factor", [1, 0.25], ids=["factor 1", "factor 0.25"])
@pytest.mark.parametrize("logits_per_chunk", [1, 1013 * 8, 1013 * 90, 10**9])
def test_chunks_do_not_change_the_result(
    logits_per_chunk: int, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From one position at a time to all at once, with and without a remainder."""
    head, x, targets = make_head(91, 37, 1013, torch.float64)
    expected = gradients(head, x, targets, fused=False, scale=0.3, factor=factor)
    monkeypatch.setattr(kernel_module, "_LOGITS_PER_CHUNK", logits_per_chunk)
    monkeypatch.setattr(kernel_module, "_MIN_ROWS", 1)
    found = gradients(head, x, targets, fused=True, scale=0.3, factor=factor)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-13)


def test_without_bias_or_positions() -> None:
    """Without positions, the gradient is zero instead of uninitialized."""
    head, x, targets = make_head(9, 5, 11, torch.float64)
    nn.init.zeros_(head.bias)
    expected = gradients(head, x, targets, fused=False)
    for positions in (9, 0):
        x, weight = x.detach().requires_grad_(), head.weight.detach().clone().requires_grad_()
        part = x[:positions], weight, None, targets[:positions]
        loss, nll = kernel_module.linear_cross_entropy(*part, 1.0)
        loss.backward()
        assert x.grad is not None
        assert weight.grad is not None
        if positions:
            for ours, theirs in zip([loss, nll, x.grad, weight.grad], expected, strict=False):
                torch.testing.assert_close(ours, theirs)
        else:
            assert loss.item() == 0
            assert nll.shape == (0,)
            assert not x.grad.count_nonzero()
            assert not weight.grad.count_nonzero()


@pytest.mark.parametrize(
    ("positions", "vocab_size", "rows", "expected"),
    [
        (700, 10_000, 1, 700),  # 2^23 elements are 838 rows
        (1000, 10_000, 1, 500),
        (700, 65_536, 1, 117),  # 2^23 elements are 128 rows
        (700, 267_735, 1, 117),
        (700, 267_735, 15, 9),
        (700, 1_000_000_000, 1, 117),
        (5, 267_735, 1, 5),
    ],
)
def test_chunk_is_bounded_in_elements_or_rows(
    positions: int, vocab_size: int, rows: int, expected: int
) -> None:
    found = kernel_module.positions_per_chunk(positions, vocab_size, rows)
    assert found == expected
    assert (found - 1) * rows * vocab_size < max(2**23, 128 * vocab_size)


def test_second_backward_raises() -> None:
    head, x, targets = make_head(5, 3, 7)
    loss, _ = head.loss(x, targets)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward was called twice"):
        loss.backward()


def test_gradient_is_computed_only_where_needed() -> None:
    head, x, targets = make_head(5, 3, 7)
    loss, _ = head.loss(x.detach(), targets)
    loss.backward()
    assert x.grad is None
    assert head.weight.grad is not None


def test_no_gradients_are_computed_in_evaluation() -> None:
    head, x, targets = make_head(5, 3, 7)
    with torch.no_grad():
        loss, nll = head.loss(x, targets, 2.0)
    assert not loss.requires_grad
    assert torch.equal(nll, head.nll(x, targets))
    torch.testing.assert_close(loss, 2 * nll.sum())


def test_log_probs_are_normalized_and_match_the_loss() -> None:
    head, x, targets = make_head(5, 3, 7, torch.float64)
    log_probs = head.log_probs(x)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(-log_probs[torch.arange(5), targets], head.nll(x, targets))


def bf16_loss(head: Softmax, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast("cpu", torch.bfloat16):
        return head.loss(x, targets)


def test_chunks_do_not_cost_bf16_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weight gradient is a sum over all chunks."""
    head, x, targets = make_head(500, 8, 300)

    def weight_gradient(*, bf16: bool) -> Tensor:
        head.zero_grad(set_to_none=True)
        loss, _ = bf16_loss(head, x, targets) if bf16 else head.loss(x, targets)
        loss.backward()
        assert head.weight.grad is not None
        return head.weight.grad

    exact = weight_gradient(bf16=False)
    whole = (weight_gradient(bf16=True) - exact).norm() / exact.norm()
    monkeypatch.setattr(kernel_module, "_LOGITS_PER_CHUNK", 1000)
    monkeypatch.setattr(kernel_module, "_MIN_ROWS", 1)
    chunked = (weight_gradient(bf16=True) - exact).norm() / exact.norm()
    assert 0 < chunked < 1.2 * whole < 0.01


def test_bf16_loss_has_the_precision_of_bf16() -> None:
    """8 bits of a logit and of p: each loss is within 2%, their mean within 0.1%."""
    head, x, targets = make_head(2000, 32, 1000)
    x = x.detach().bfloat16().float()
    exact, rounded = head.loss(x, targets)[1], bf16_loss(head, x, targets)[1]
    assert rounded.dtype == torch.float32
    difference = (rounded - exact).abs()
    assert 0 < difference.max() < 2**-8 * (1 + 2 * exact.max())
    assert abs((rounded - exact).mean()) < 1e-3 * exact.mean()


@pytest.mark.parametrize("kind", ["float64", "float32", "bf16"])
def test_underflowing_probability_has_a_finite_loss(kind: str) -> None:
    """A p of 1e-400 is 0 in any floating-point type; -log p is 921."""
    head = Softmax(1, 3).to(torch.float64 if kind == "float64" else torch.float32)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 921.0, 0.0]))
    x = torch.zeros(1, 1, dtype=head.weight.dtype)
    targets = torch.tensor([0])
    loss, nll = bf16_loss(head, x, targets) if kind == "bf16" else head.loss(x, targets)
    loss.backward()
    assert nll.item() == pytest.approx(921, rel=0.01)
    assert head.bias.grad is not None
    assert head.bias.grad.tolist() == [-1.0, 1.0, 0.0]


def test_no_tensor_is_larger_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with positions times vocabulary."""
    monkeypatch.setattr(kernel_module, "_LOGITS_PER_CHUNK", 5000)
    monkeypatch.setattr(kernel_module, "_MIN_ROWS", 1)
    head, x, targets = make_head(300, 4, 1000)
    largest = 0

    class Watch(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    class Context:
        needs_input_grad = (True, True, True)

        def mark_non_differentiable(self, *_: Tensor) -> None: ...
        def set_materialize_grads(self, _: bool) -> None: ...

    with Watch(), torch.no_grad():
        kernel_module._LinearCrossEntropy.forward(
            Context(), x, head.weight, head.bias, targets, 1.0, torch.float32
        )
    assert 4000 <= largest <= 5000
