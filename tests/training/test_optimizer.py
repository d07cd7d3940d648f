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
from ptblm.run.setup import setup_run
from ptblm.training.optimizer import Optimizer, make_optimizer
from ptblm.training.records import EpochDone, StepDone
from tests.training.small_trainer import OPTIMIZERS

SHAPES = [(3, 4), (5,), (2, 3)]
# A learning rate that changes, as with a schedule.
RATES = [0.1, 0.1, 0.05, 0.2, 0.003, 0.1, 0.1, 0.1, 0.02, 0.1]


def make_parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(shape, generator=generator, dtype=dtype) for shape in SHAPES]
    return {f"layer.{index}": nn.Parameter(value) for index, value in enumerate(values)}


def make_gradients(step: int) -> list[Tensor]:
    """Gradients of very different sizes, some of them zero."""
    source = torch.Generator().manual_seed(100 + step)
    gradients = [torch.randn(shape, generator=source, dtype=torch.float64) for shape in SHAPES]
    gradients[0][1] = 0
    return [gradient * 10.0 ** -(4 * n) for n, gradient in enumerate(gradients)]


def make(parameters: dict[str, nn.Parameter], name: str, **constants: float) -> Optimizer:
    settings: dict[str, Any] = {"optimizer": {"type": name, **constants}}
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
        ("momentum", {}, lambda p: torch.optim.SGD(p, momentum=0.9)),
        ("momentum", {"momentum": 0.5}, lambda p: torch.optim.SGD(p, momentum=0.5)),
        ("adam", {}, lambda p: torch.optim.Adam(p)),
        (
            "adam",
            {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-2},
            lambda p: torch.optim.Adam(p, betas=(0.8, 0.95), eps=1e-2),
        ),
        ("rmsprop", {}, lambda p: torch.optim.RMSprop(p, alpha=0.9)),
        # A large epsilon shows whether it is inside the square root.
        (
            "rmsprop",
            {"decay": 0.5, "epsilon": 0.3},
            lambda p: torch.optim.RMSprop(p, alpha=0.5, eps=0.3),
        ),
    ],
    ids=["sgd", "momentum", "momentum 0.5", "adam", "adam, others", "rmsprop", "rmsprop, others"],
)
def test_optimizer_equals_torch(
    name: str, constants: dict[str, float], make_torchs: MakeTorchOptimizer
) -> None:
    parameters = make_parameters()
    theirs = make_torchs(list(parameters.values()))
    for step, rate in enumerate(RATES):
        theirs.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters.values(), make_gradients(step), strict=True):
            parameter.grad = gradient
        theirs.step()
    found = values_after(make(make_parameters(), name, **constants))
    assert_close(found, numpy_values(parameters))


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
                optimizer.parameters["layer.1"].grad = missing
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
