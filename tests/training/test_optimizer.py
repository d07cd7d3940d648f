"""Optimizers: equations of the papers, torch.optim, saved state, learning."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ptblm.config.loading import load_config
from ptblm.config.training import TrainingConfig
from ptblm.errors import ConfigError
from ptblm.run.setup import setup_run
from ptblm.training.optimizer import Optimizer, make_optimizer
from ptblm.training.records import EpochDone, StepDone
from tests.training.small_trainer import OPTIMIZERS

SHAPES = [(3, 4), (5,), (2, 3)]
NAMES = ["cell.weight_ih", "cell.bias", "cell.weight_hh"]
# A learning rate that changes, as with a schedule.
RATES = [0.1, 0.1, 0.05, 0.2, 0.003, 0.1, 0.1, 0.1, 0.02, 0.1]


def make_parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    return {name: nn.Parameter(value) for name, value in zip(NAMES, values, strict=True)}


def make_gradients(step: int) -> list[Tensor]:
    """Gradients of very different sizes, some of them zero."""
    source = torch.Generator().manual_seed(100 + step)
    gradients = [torch.randn(shape, generator=source, dtype=torch.float64) for shape in SHAPES]
    gradients[0][1] = 0
    return [gradient * 10.0 ** -(4 * n) for n, gradient in enumerate(gradients)]


def make(
    parameters: dict[str, nn.Parameter],
    name: str,
    *,
    weight_decay: float = 0.0,
    **constants: float,
) -> Optimizer:
    settings: dict[str, Any] = {"optimizer": {"type": name, **constants}}
    settings["weight_decay"] = weight_decay
    return make_optimizer(parameters, TrainingConfig(**settings))


def values_after(optimizer: Optimizer, rates: list[float] = RATES) -> list[np.ndarray]:
    for step, rate in enumerate(rates):
        gradients = make_gradients(step)
        for parameter, gradient in zip(optimizer.parameters.values(), gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step(rate)
    return numpy_values(optimizer.parameters)


def numpy_values(parameters: dict[str, nn.Parameter]) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in parameters.values()]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("beta1", "beta2", "epsilon"), [(0.9, 0.999, 1e-8), (0.0, 0.5, 1e-3), (0.5, 0.0, 1.0)]
)
def test_adam_equals_the_paper(beta1: float, beta2: float, epsilon: float) -> None:
    """Kingma & Ba 2015, algorithm 1, line by line."""
    theta = numpy_values(make_parameters())
    m = [np.zeros(shape) for shape in SHAPES]
    v = [np.zeros(shape) for shape in SHAPES]
    for t, alpha in enumerate(RATES, start=1):
        for n, gradient in enumerate(make_gradients(t - 1)):
            g = gradient.numpy()
            m[n] = beta1 * m[n] + (1 - beta1) * g
            v[n] = beta2 * v[n] + (1 - beta2) * g * g
            m_hat = m[n] / (1 - beta1**t)
            v_hat = v[n] / (1 - beta2**t)
            theta[n] = theta[n] - alpha * m_hat / (np.sqrt(v_hat) + epsilon)
    constants = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
    assert_close(values_after(make(make_parameters(), "adam", **constants)), theta)


MakeTorchOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@pytest.mark.parametrize(
    ("name", "constants", "make_torchs"),
    [
        ("sgd", {}, lambda p: torch.optim.SGD(p)),
        ("sgd", {"weight_decay": 0.3}, lambda p: torch.optim.SGD(p, weight_decay=0.3)),
        ("momentum", {}, lambda p: torch.optim.SGD(p, momentum=0.9)),
        (
            "momentum",
            {"momentum": 0.5, "weight_decay": 0.3},
            lambda p: torch.optim.SGD(p, momentum=0.5, weight_decay=0.3),
        ),
        ("adam", {}, lambda p: torch.optim.Adam(p)),
        (
            "adam",
            {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-2},
            lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-2),
        ),
        (
            "adam",  # the optimizer of LAMB
            {"beta1": 0.0, "weight_decay": 2.5e-4},
            lambda p: torch.optim.Adam(p, betas=(0.0, 0.999), weight_decay=2.5e-4),
        ),
        ("adamw", {}, lambda p: torch.optim.AdamW(p, weight_decay=0.0)),
        (
            "adamw",
            {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-2, "weight_decay": 0.3},
            lambda p: torch.optim.AdamW(p, betas=(0.8, 0.95), eps=1e-2, weight_decay=0.3),
        ),
        ("nadam", {}, lambda p: torch.optim.NAdam(p)),
        (
            "nadam",
            {"beta1": 0.8, "momentum_decay": 0.1, "weight_decay": 0.3},
            lambda p: torch.optim.NAdam(
                p, betas=(0.8, 0.999), momentum_decay=0.1, weight_decay=0.3
            ),
        ),
        (
            "nadam",
            {"decoupled_weight_decay": True, "weight_decay": 0.3},
            lambda p: torch.optim.NAdam(p, decoupled_weight_decay=True, weight_decay=0.3),
        ),
        ("rmsprop", {}, lambda p: torch.optim.RMSprop(p, alpha=0.9)),
        # A large epsilon shows whether it is inside the square root.
        (
            "rmsprop",
            {"decay": 0.5, "epsilon": 0.3, "weight_decay": 0.2},
            lambda p: torch.optim.RMSprop(p, alpha=0.5, eps=0.3, weight_decay=0.2),
        ),
    ],
    ids=itertools.count(),
)
@pytest.mark.parametrize("steps", [1, 10])
def test_optimizer_equals_torch(
    name: str, constants: dict[str, float], make_torchs: MakeTorchOptimizer, steps: int
) -> None:
    parameters = make_parameters()
    theirs = make_torchs(list(parameters.values()))
    train_torch([theirs], parameters, steps)
    found = values_after(make(make_parameters(), name, **constants), RATES[:steps])
    assert_close(found, numpy_values(parameters))


def train_torch(
    optimizers: list[torch.optim.Optimizer],
    parameters: dict[str, nn.Parameter],
    steps: int,
    factors: tuple[float, ...] = (1.0,),
) -> None:
    """Trains with optimizers of torch, whose learning rates are multiples of the schedule."""
    for step, rate in enumerate(RATES[:steps]):
        for parameter, gradient in zip(parameters.values(), make_gradients(step), strict=True):
            parameter.grad = gradient
        for optimizer, factor in zip(optimizers, factors, strict=True):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()


@pytest.mark.parametrize("steps", [1, 10])
def test_muon_equals_torch_and_updates_others_by_adamw(steps: int) -> None:
    parameters = make_parameters()
    matrices, others = [parameters[NAMES[0]], parameters[NAMES[2]]], [parameters[NAMES[1]]]
    theirs = [
        torch.optim.Muon(matrices, momentum=0.8, weight_decay=0.3),
        torch.optim.AdamW(others, betas=(0.7, 0.99), eps=1e-2, weight_decay=0.3),
    ]
    train_torch(theirs, parameters, steps, (1.0, 0.25))
    options = {"momentum": 0.8, "adam_factor": 0.25, "beta1": 0.7, "beta2": 0.99, "epsilon": 1e-2}
    ours = make(make_parameters(), "muon", weight_decay=0.3, **options)
    assert_close(values_after(ours, RATES[:steps]), numpy_values(parameters))


def test_muon_makes_the_update_of_a_matrix_orthogonal() -> None:
    """All singular values of the update are near the learning rate, whatever the gradient's."""
    (before, _, _), parameters = numpy_values(make_parameters()), make_parameters()
    (after, _, _) = values_after(make(parameters, "muon"), [0.1])
    gradient = make_gradients(0)[0].numpy()
    u, sizes, v = np.linalg.svd(gradient, full_matrices=False)
    core = u.T @ (before - after) @ v.T / 0.1
    present = sizes > 1e-9  # a row of zeros has no direction
    assert present.sum() == 2
    assert np.all((core.diagonal()[present] > 0.6) & (core.diagonal()[present] < 1.4))
    assert np.abs(core - np.diag(core.diagonal())).max() < 0.05


def test_muon_without_recurrent_matrices_is_explained() -> None:
    others = {"cell.bias": nn.Parameter(torch.zeros(2)), "head.weight": nn.Parameter(torch.eye(2))}
    with pytest.raises(ConfigError, match="weight_ih or weight_hh, and the cell has none"):
        make(others, "muon")


@pytest.mark.parametrize("way", ["dense", "sparse"])
def test_weight_decay_of_sgd_equals_decay_of_the_gradient(way: str) -> None:
    """After clipping: the limit of the gradient does not apply to the decay."""
    table = nn.Parameter(torch.linspace(-1, 1, 12, dtype=torch.float64).view(4, 3))
    expected = table.detach() - 0.5 * (0.1 * table.detach())
    gradient = torch.zeros(4, 3, dtype=torch.float64)
    gradient[2] = 7.0
    expected[2] -= 0.5 * 0.25 * 7.0
    table.grad = gradient.to_sparse(1) if way == "sparse" else gradient
    make({"table": table}, "sgd", weight_decay=0.1).step(0.5, 0.25)
    torch.testing.assert_close(table.detach(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "nadam", "muon"])
def test_momentum_can_change_in_every_step(name: str) -> None:
    """With a momentum of zero, the second update does not depend on the first gradient."""
    results = []
    for first_gradient in (1.0, -3.0):
        parameters = {
            "w.weight_ih": nn.Parameter(torch.zeros(2, 2)),
            "b": nn.Parameter(torch.ones(2)),
        }
        options = {"beta2": 0.0} if name != "momentum" else {}
        optimizer = make(parameters, name, **options)
        matrix = parameters["w.weight_ih"]
        for gradient in (first_gradient * torch.eye(2), torch.tensor([[1.0, 2.0], [0.5, -1.0]])):
            before = matrix.detach().clone()
            matrix.grad, parameters["b"].grad = gradient, torch.ones(2)
            optimizer.set_momentum(0.0)
            optimizer.step(0.1)
        results.append(matrix.detach() - before)
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-6)


def test_zero_momentum_is_sgd() -> None:
    momentum = values_after(make(make_parameters(), "momentum", momentum=0.0))
    assert_close(momentum, values_after(make(make_parameters(), "sgd")))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_missing_gradient_counts_as_zero(name: str) -> None:
    with_none, with_zero = make(make_parameters(), name), make(make_parameters(), name)
    for step in range(4):
        for optimizer in (with_none, with_zero):
            gradients = make_gradients(step)
            for parameter, gradient in zip(optimizer.parameters.values(), gradients, strict=True):
                parameter.grad = gradient
            if step % 2:
                missing = None if optimizer is with_none else torch.zeros(SHAPES[1]).double()
                optimizer.parameters["cell.bias"].grad = missing
            optimizer.step(0.1)
    for key, value in with_none.parameters.items():
        assert torch.equal(value, with_zero.parameters[key])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_state_is_complete(name: str) -> None:
    """Five steps, then five more with another optimizer that loads the state, equal ten steps."""
    whole = values_after(make(make_parameters(torch.float32), name))
    first = make(make_parameters(torch.float32), name)
    values_after(first, RATES[:5])
    saved = first.state_dict()
    copies = {key: nn.Parameter(value.detach().clone()) for key, value in first.parameters.items()}
    second = make(copies, name)
    second.load_state_dict(saved)
    restored = second.state_dict()
    assert restored.keys() == saved.keys()
    for key, value in saved.items():
        assert torch.equal(restored[key], value)
        assert restored[key] is not value
    for step, rate in list(enumerate(RATES))[5:]:
        for parameter, gradient in zip(copies.values(), make_gradients(step), strict=True):
            parameter.grad = gradient.float()
        second.step(rate)
    for ours, theirs in zip(numpy_values(copies), whole, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradient_scale_may_be_a_tensor(name: str) -> None:
    """A tensor is applied as exactly as a number."""
    results = []
    for scale in (0.3, torch.tensor(0.3, dtype=torch.float64), 1.0, torch.tensor(1.0)):
        parameters = make_parameters(torch.float32)
        for parameter, gradient in zip(parameters.values(), make_gradients(0), strict=True):
            parameter.grad = gradient.float()
        make(parameters, name).step(0.7, scale)
        results.append(numpy_values(parameters))
    for first, second, third, fourth in zip(*results, strict=True):
        assert np.array_equal(first, second)
        assert np.array_equal(third, fourth)
        assert not np.array_equal(first, third)


def test_extreme_valid_options_give_finite_weights() -> None:
    """In fp32, with zero gradients: no factor overflows, and no quotient is 0 / 0."""
    shares = (0.0, 0.999999)
    constants: dict[str, list[dict[str, float]]] = {
        "sgd": [{}],
        "momentum": [{"momentum": share} for share in (0.0, 1 - 1e-16)],
        "adam": [
            {"beta1": beta1, "beta2": beta2, "epsilon": epsilon}
            for beta1, beta2, epsilon in itertools.product(shares, shares, (1e-30, 1e30))
        ],
        "adamw": [{"beta1": share, "beta2": share, "epsilon": 1e-30} for share in shares],
        "nadam": [
            {"beta1": share, "epsilon": 1e-30, "momentum_decay": decay}
            for share, decay in itertools.product(shares, (0.0, 1.0))
        ],
        "muon": [{"momentum": share, "adam_factor": 1.0} for share in shares],
        "rmsprop": [
            {"decay": share, "epsilon": epsilon}
            for share, epsilon in itertools.product(shares, (1e-30, 1e30))
        ],
    }
    for name in OPTIMIZERS:
        for chosen in constants[name]:
            for rate in (1e-300, 1e30):
                optimizer = make(make_parameters(torch.float32), name, **chosen)
                for values in values_after(optimizer, [rate] * 3):
                    assert np.isfinite(values).all(), (name, chosen, rate)


@pytest.mark.parametrize(("name", "rate"), OPTIMIZERS.items())
def test_optimizer_learns_the_sample_corpus(name: str, rate: float) -> None:
    """In one epoch, from chance level to better than any model without context."""
    overrides = ["data.path=sample", "model.hidden_size=32", "training.epochs=1"]
    overrides += ["training.batch_size=10", "training.num_steps=10"]
    overrides += [f"training.optimizer={name}", f"training.learning_rate={rate}"]
    components = setup_run(load_config("small", overrides))
    words = len(components.corpus.vocabulary)
    counts = np.bincount(components.corpus.splits["train"].ids, minlength=words)
    shares = counts / counts.sum()
    without_context = np.exp(-(shares * np.log(shares)).sum())
    records = components.trainer.records()
    first = next(records)
    assert isinstance(first, StepDone)
    assert first.running_perplexity == pytest.approx(words, rel=0.05)
    (done,) = [record for record in records if isinstance(record, EpochDone)]
    assert done.valid_perplexity < 0.5 * without_context
