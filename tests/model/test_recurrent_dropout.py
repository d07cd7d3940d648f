"""Dropout of recurrent weights (DropConnect) and of the hidden state."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.dropout import dropout, dropout_mask
from ptblm.model.layers.weight_drop import recurrent_weights
from tests.finite_differences import assert_gradients_match

VOCABULARY, BATCH, STEPS = 11, 3, 5
WEIGHTS = {"recurrent_weights": 0.5}
STATE = {"recurrent_state": 0.5}
BOTH = {**WEIGHTS, **STATE, "locked": True, "embedding": 0.2}
BOTH |= {"input": 0.2, "between": 0.3, "output": 0.4}
CELLS: dict[str, Any] = {
    "lstm": "lstm",
    "lstm, cap": {"type": "lstm", "cap_input_gate": True},
    "lstm, peepholes": {"type": "lstm", "peepholes": True},
    "lstm, projection": {"type": "lstm", "projection_size": 3},
    "gru": "gru",
    "janet": "janet",
    "rnn": "rnn",
    "slstm": "slstm",
    "mogrifier": {"type": "mogrifier", "rounds": 2, "rank": 2},
    "rlstm": {"type": "rlstm", "rounds": 2},
}


def make_model(
    dropout: Any, cell: Any = "lstm", *, fused: bool = True, num_layers: int = 2
) -> LanguageModel:
    config = ModelConfig.model_validate(
        {"cell": cell, "hidden_size": 6, "num_layers": num_layers, "dropout": dropout}
    )
    model = build_model(config, VOCABULARY, fused=fused).double()
    source = generator(1)
    model.initialize(Initializer("uniform", 0.7), source)
    # With zero biases, a dropped word can put a capped input gate exactly on its limit, where the
    # gradient is not defined.
    for name, parameter in model.recurrent.named_parameters():
        if name.endswith("bias"):
            nn.init.uniform_(parameter, -0.1, 0.1, source)
    return model


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(steps: int = STEPS) -> tuple[Tensor, Tensor]:
    ids = torch.randint(VOCABULARY, (BATCH, steps + 1), generator=generator(2))
    return ids[:, :-1], ids[:, 1:]


def loss(model: LanguageModel, start: float = 0.3) -> Tensor:
    state = model.initial_state(BATCH)
    state = tuple(tuple(torch.full_like(part, start) for part in layer) for layer in state)
    result: Tensor = model(*batch(), state, generator())[0]
    return result


def gradients(model: LanguageModel) -> dict[str, Tensor]:
    model.zero_grad()
    loss(model).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def cases(*names: str) -> list[Any]:
    """Each cell with each kind of dropout that it has: GRU and JANET have no state dropout."""
    return [
        pytest.param(name, rates, id=f"{name}, {kind}")
        for name in names
        for kind, rates in (("weights", WEIGHTS), ("state", STATE), ("both", BOTH))
        if kind == "weights" or name not in ("gru", "janet")
    ]


@pytest.mark.parametrize(("name", "rates"), cases(*CELLS))
def test_gradients_match_finite_differences(name: str, rates: dict[str, Any]) -> None:
    """Of the raw weights too, through the mask."""
    model = make_model(rates, CELLS[name])
    assert_gradients_match(lambda: loss(model).item(), model, gradients(model))


@pytest.mark.parametrize(("name", "rates"), cases("lstm", "lstm, cap", "rnn", "gru"))
def test_fused_equals_unfused(name: str, rates: dict[str, Any]) -> None:
    fused, unfused = (make_model(rates, CELLS[name], fused=fused) for fused in (True, False))
    assert unfused.recurrent.kernel == "unfused"
    torch.testing.assert_close(loss(fused), loss(unfused), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients(fused), gradients(unfused), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(
    ("cell", "rates", "kernel"),
    [
        ("lstm", {"locked": True, "input": 0.5, "between": 0.5, "output": 0.5}, "fused"),
        ("lstm", WEIGHTS, "fused"),
        ("lstm", STATE, "fused"),
        ("gru", WEIGHTS, "fused"),
        ("rnn", WEIGHTS, "fused"),
        ("rnn", STATE, "unfused"),
    ],
)
def test_kernel_with_dropout(cell: str, rates: dict[str, Any], kernel: str) -> None:
    assert make_model(rates, cell).recurrent.kernel == kernel


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("name", ["mogrifier", "lstm, peepholes"])
def test_compiled_step_equals_unfused(name: str) -> None:
    """Tests graph capture only; tests/test_gpu.py runs the compiled kernels."""
    unfused, compiled = (make_model(BOTH, CELLS[name]) for _ in range(2))
    torch._dynamo.reset()  # otherwise all tests share one recompilation limit
    for layer in compiled.recurrent.layers:
        layer.compile_step(BATCH, backend="aot_eager")
    assert compiled.recurrent.kernel == "compiled"
    torch.testing.assert_close(gradients(compiled), gradients(unfused), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "mogrifier", "rlstm"])
def test_raw_weights_are_trained_and_saved(cell: str, fused: bool) -> None:
    """Ports of AWD-LSTM to new versions of PyTorch have frozen these weights."""
    model = make_model(WEIGHTS, cell, fused=fused)
    names = [f"recurrent.{name}" for name in recurrent_weights(model.recurrent)]
    assert names
    assert model.state_dict().keys() == make_model(0.0, cell).state_dict().keys()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = gradients(model)
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    for name in names:
        zeros = (found[name] == 0).double().mean().item()
        assert 0.2 < zeros < 0.8  # the gradient passes the mask
        parameter = model.get_parameter(name)
        assert parameter.requires_grad
        with torch.no_grad():
            parameter.sub_(0.1 * found[name])
        assert not torch.equal(parameter, before[name])
    assert loss(model) < loss(make_with(before, model, cell, fused))


def make_with(
    weights: dict[str, Tensor], like: LanguageModel, cell: str, fused: bool
) -> LanguageModel:
    model = make_model(like.dropout, cell, fused=fused)
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("cell", ["lstm", "gru", "mogrifier"])
def test_weights_equal_those_of_a_model_with_dropped_weights(cell: str) -> None:
    """One mask for all time steps, scaled by 1/(1-p)."""
    model, plain = make_model(WEIGHTS, cell, num_layers=1), make_model(0.0, cell, num_layers=1)
    source = generator()
    with torch.no_grad():
        for weight in recurrent_weights(plain.recurrent).values():
            weight.copy_(dropout(weight, 0.5, source))
    torch.testing.assert_close(loss(model), loss(plain), rtol=1e-12, atol=0)


def test_hidden_state_has_one_mask_for_all_steps() -> None:
    """An LSTM, written out; the state that is carried to the next batch is not masked."""
    model = make_model(STATE, num_layers=1)
    cell: Any = model.recurrent.layers[0].cell
    inputs, _ = batch()
    features, ((last_h, last_c),) = model.features(inputs, model.initial_state(BATCH), generator())
    mask = dropout_mask(torch.zeros(BATCH, 6).double(), 0.5, generator())
    h, c = model.initial_state(BATCH)[0]
    for x, output in zip(model.embedding(inputs.t()), features, strict=True):
        gates = x @ cell.gates.weight_ih.t() + (mask * h) @ cell.gates.weight_hh.t()
        i, f, j, o = (gates + cell.gates.bias).chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(j)
        h = torch.sigmoid(o) * torch.tanh(c)
        torch.testing.assert_close(output, h, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close((last_h, last_c), (h, c), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("rates", [WEIGHTS, STATE], ids=["weights", "state"])
@pytest.mark.parametrize("name", ["lstm", "rnn", "mogrifier"])
def test_first_time_step_from_zeros_is_unaffected(name: str, rates: dict[str, Any]) -> None:
    inputs, _ = batch()
    dropped, plain = (make_model(r, CELLS[name], num_layers=1) for r in (rates, 0.0))
    one, other = (
        model.features(inputs, model.initial_state(BATCH), generator())[0]
        for model in (dropped, plain)
    )
    torch.testing.assert_close(one[0], other[0], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(one[1], other[1])


@pytest.mark.parametrize("rates", [WEIGHTS, STATE, BOTH], ids=["weights", "state", "both"])
def test_masks_differ_between_batches_and_vanish_in_evaluation(rates: dict[str, Any]) -> None:
    model, plain, source = make_model(rates), make_model(0.0), generator()
    inputs, targets = batch()

    def features(source: torch.Generator | None) -> Tensor:
        return model.features(inputs, model.initial_state(BATCH), source)[0]

    assert not torch.equal(features(source), features(source))
    first, second = (model.nll(inputs, targets, model.initial_state(BATCH))[0] for _ in range(2))
    assert torch.equal(first, second)
    expected = plain.nll(inputs, targets, plain.initial_state(BATCH))[0]
    torch.testing.assert_close(first, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("cell", ["gru", "janet", "sru"])
def test_cell_whose_memory_is_its_state_is_rejected(cell: str) -> None:
    with pytest.raises(ConfigError, match=f"recurrent_state: {cell} keeps its memory in"):
        make_model(STATE, cell)


def test_cell_without_recurrent_weights_is_rejected() -> None:
    with pytest.raises(ConfigError, match="recurrent_weights: sru has no weights of the hidden"):
        make_model(WEIGHTS, "sru")


_CUSTOM = """
import torch
from torch import nn
from ptblm.model.cells.cell import Affine, Cell


class WithAffine(Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.map = Affine(input_size, hidden_size, hidden_size)

    def step(self, x, state):
        h = torch.tanh(self.map(self.map.inputs(x), state[0]))
        return h, (h,)


class WithLinear(Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.map = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, state):
        h = torch.tanh(self.map(torch.cat([x, state[0]], 1)))
        return h, (h,)
"""


@pytest.mark.usefixtures("trusted_cells")
def test_custom_cell_is_dropped_where_it_has_affine_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dropped_cells.py").write_text(_CUSTOM)
    monkeypatch.chdir(tmp_path)
    custom: Callable[[str], str] = "dropped_cells:{}".format
    ours, theirs = make_model(BOTH, custom("WithAffine")), make_model(BOTH, "rnn", fused=False)
    theirs.load_state_dict(
        {name.replace(".map.", ".affine."): value for name, value in ours.state_dict().items()}
    )
    torch.testing.assert_close(loss(ours), loss(theirs), rtol=1e-12, atol=0)
    make_model(STATE, custom("WithLinear"))
    with pytest.raises(ConfigError, match="WithLinear has no weights of the hidden state"):
        make_model(WEIGHTS, custom("WithLinear"))
