"""The fast way to the gradients against the plain one: any shape, any type."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.backend.precision import Precision
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.heads import softmax as softmax_module
from ptblm.model.heads.softmax import Softmax
from ptblm.model.initializers import Initializer
from ptblm.model.kernels import fused as fused_module
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.training.gradients import (
    Backward,
    fast_backward,
    gradient_bytes,
    plain_backward,
)

# vocabulary, batch, steps, layers, hidden: one of each, and no multiples of anything.
ODD_SHAPES = [
    (1, 3, 4, 1, 5),
    (11, 1, 7, 2, 3),
    (50, 4, 1, 1, 8),
    (2, 1, 1, 1, 1),
    (1013, 7, 13, 3, 37),
]
RTOL = {torch.float64: 1e-12, torch.float32: 2e-5}


def make(
    shape: tuple[int, ...], dtype: torch.dtype, *, plain: bool = False, **config: Any
) -> tuple[LanguageModel, Tensor, Tensor]:
    vocab_size, batch, steps, layers, hidden = shape
    model_config = ModelConfig(hidden_size=hidden, num_layers=layers, dropout=0.2, **config)
    model = build_model(model_config, vocab_size, plain=plain).to(dtype)
    model.initialize(Initializer("uniform", 0.3), torch.Generator().manual_seed(1))
    source = torch.Generator().manual_seed(2)
    ids = torch.randint(vocab_size, (batch, steps + 1), generator=source)
    return model, ids[:, :-1], ids[:, 1:]


def gradients(
    backward: Backward, model: LanguageModel, inputs: Tensor, targets: Tensor, precision_name: str
) -> dict[str, Tensor]:
    state = tuple(
        tuple(torch.full_like(part, 0.1) for part in layer)
        for layer in model.initial_state(len(inputs))
    )
    precision = Precision(precision_name, torch.device("cpu"))
    for parameter in model.parameters():
        parameter.grad = None
    source = torch.Generator().manual_seed(3)
    nll, last = backward(model, precision, inputs, targets, state, source)
    parts = {f"state{layer}.{i}": p for layer, ps in enumerate(last) for i, p in enumerate(ps)}
    found = {n: p.grad.to_dense() for n, p in model.named_parameters() if p.grad is not None}
    return {"nll": nll, **parts, **found}


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert ours[name].dtype == value.dtype
        error = (ours[name] - value).abs().max().item()
        # A vocabulary of one has no gradient but rounding.
        assert error <= tolerance * max(value.abs().max().item(), 1e-3), name


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
def test_the_fast_way_equals_the_plain_one(
    shape: tuple[int, ...], dtype: torch.dtype, sparse: bool
) -> None:
    """Loss, state and every gradient, with dropout's masks alike; repeated words included."""
    model, inputs, targets = make(shape, dtype)
    plain_model, _, _ = make(shape, dtype, plain=True)
    model.embedding.sparse = sparse
    ours = gradients(fast_backward, model, inputs, targets, "fp32")
    theirs = gradients(plain_backward, plain_model, inputs, targets, "fp32")
    assert_close(ours, theirs, RTOL[dtype])


@pytest.mark.parametrize("numbers", [1, 1013 * 8, 1013 * 90, 10**9])
def test_chunks_change_nothing(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a position at a time to all at once, with and without a rest."""
    model, inputs, targets = make(ODD_SHAPES[-1], torch.float64)
    theirs = gradients(plain_backward, model, inputs, targets, "fp32")
    monkeypatch.setattr(softmax_module, "_NUMBERS_PER_CHUNK", numbers)
    assert_close(gradients(fast_backward, model, inputs, targets, "fp32"), theirs, 1e-12)


def test_chunks_cost_bf16_no_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the weight's gradient, which is a sum over all of them."""
    softmax = Softmax(8, 300)
    softmax.initialize(0.5, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    hidden = torch.randn(500, 8, generator=source)
    targets = torch.randint(300, (500,), generator=source)

    def gradient(dtype: torch.dtype) -> Tensor:
        softmax.nll_and_gradients(hidden, targets, 1.0, dtype)
        assert softmax.weight.grad is not None
        return softmax.weight.grad

    exact = gradient(torch.float32)
    whole = (gradient(torch.bfloat16) - exact).norm() / exact.norm()
    monkeypatch.setattr(softmax_module, "_NUMBERS_PER_CHUNK", 1000)
    chunked = (gradient(torch.bfloat16) - exact).norm() / exact.norm()
    assert 0 < chunked < 1.2 * whole < 0.01


@pytest.mark.parametrize("shape", ODD_SHAPES, ids=str)
@pytest.mark.parametrize(
    ("cell", "mixed_pays"), [("lstm", 1), ("lstm", 100), ("gru", 1), ("slstm", 1)]
)
def test_bf16_is_as_near_as_its_digits(
    cell: str, mixed_pays: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own LSTM kernel, torch's fused ones, and cells that go step by step."""
    monkeypatch.setattr(fused_module, "MIN_BF16_UNITS", mixed_pays)
    model, inputs, targets = make(shape, torch.float32, cell=cell)
    exact = gradients(plain_backward, model, inputs, targets, "fp32")
    assert_close(gradients(fast_backward, model, inputs, targets, "bf16"), exact, 0.05)


def test_bf16_learns_a_start_state_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_module, "MIN_BF16_UNITS", 1)
    model, inputs, targets = make(ODD_SHAPES[1], torch.float32, initial_state="learned")
    precision = Precision("bf16", torch.device("cpu"))
    found = []
    for backward in (plain_backward, fast_backward):
        for parameter in model.parameters():
            parameter.grad = None
        state = model.initial_state(len(inputs))
        backward(model, precision, inputs, targets, state, torch.Generator().manual_seed(3))
        found.append(
            [part.grad for layer in model.recurrent.layers for part in layer.learned_state]
        )
    for fast, plain in zip(*found, strict=True):
        assert plain is not None
        assert plain.abs().max() > 0
        torch.testing.assert_close(fast, plain, rtol=0.05, atol=0.05 * plain.abs().max().item())


class CutOff(Cell):
    """Lets no gradient through, to its own weight neither."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.state_sizes = (hidden_size,)
        self.affine = torch.nn.Linear(input_size, hidden_size)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        output = torch.tanh(self.affine(x) + state[0]).detach()
        return output, (output,)


def test_a_cell_that_cuts_the_gradient_off_leaves_the_softmaxs() -> None:
    model = LanguageModel(11, 6, [RecurrentLayer(CutOff(6, 6))])
    model.initialize(Initializer("uniform", 0.3), torch.Generator().manual_seed(1))
    ids = torch.randint(11, (3, 5), generator=torch.Generator().manual_seed(2))
    found, wanted = (
        gradients(backward, model, ids[:, :-1], ids[:, 1:], "fp32")
        for backward in (fast_backward, plain_backward)
    )
    assert {"softmax.weight", "softmax.bias"} == {n for n in wanted if n.startswith("softmax")}
    assert not any(name.startswith(("embedding", "recurrent")) for name in wanted)
    assert_close(found, wanted, RTOL[torch.float32])


def test_the_loss_in_bf16_is_as_near_as_its_digits() -> None:
    """Eight bits of a logit, and eight of p: each loss to 2 %, their mean to a thousandth."""
    softmax = Softmax(32, 1000)
    softmax.initialize(0.5, torch.Generator().manual_seed(0))
    source = torch.Generator().manual_seed(1)
    hidden = torch.randn(2000, 32, generator=source).bfloat16().float()
    targets = torch.randint(1000, (2000,), generator=source)
    exact, rounded = (
        softmax.nll_and_gradients(hidden, targets, 1.0, dtype)[0]
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert rounded.dtype == torch.float32
    apart = (rounded - exact).abs()
    print(
        f"\nof {exact.mean():.2f} nats: at most {apart.max():.1e}, on average "
        f"{(rounded - exact).mean():.1e}"
    )
    assert 0 < apart.max() < 2**-8 * (1 + 2 * exact.max())
    assert abs((rounded - exact).mean()) < 1e-3 * exact.mean()


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_gradients_take_what_they_have(sparse: bool) -> None:
    model, inputs, targets = make((1013, 2, 3, 1, 8), torch.float32)
    model.embedding.sparse = sparse
    gradients(fast_backward, model, inputs, targets, "fp32")
    all_parameters = sum(parameter.nbytes for parameter in model.parameters())
    left_out = (1013 - len(set(inputs.flatten().tolist()))) * 8 * 4 if sparse else 0
    assert gradient_bytes(model.parameters()) == all_parameters - left_out


def test_the_loss_is_finite_where_a_target_is_out_of_reach() -> None:
    """A p of 1e-400 is 0 in any float; -log p is 921 all the same."""
    softmax = Softmax(1, 3).double()
    with torch.no_grad():
        softmax.weight.zero_()
        softmax.bias.copy_(torch.tensor([0.0, 921.0, 0.0]))
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        softmax = softmax.to(torch.float64 if dtype == torch.float64 else torch.float32)
        hidden = torch.zeros(1, 1, dtype=softmax.weight.dtype)
        nll, _ = softmax.nll_and_gradients(hidden, torch.tensor([0]), 1.0, dtype)
        assert nll.item() == pytest.approx(921, rel=0.01)
        assert softmax.bias.grad is not None
        assert softmax.bias.grad.tolist() == [-1.0, 1.0, 0.0]


def test_memory_does_not_grow_with_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor that is made is larger than a chunk, or than what the weights ask for."""
    monkeypatch.setattr(softmax_module, "_NUMBERS_PER_CHUNK", 5000)
    softmax = Softmax(4, 1000)
    softmax.initialize(0.1, torch.Generator().manual_seed(0))
    hidden, targets = torch.randn(300, 4), torch.zeros(300, dtype=torch.long)
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

    with Watch():
        softmax.nll_and_gradients(hidden, targets, 1.0, torch.float32)
    assert 4000 <= largest <= 5000
