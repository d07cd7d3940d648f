"""Each optimizer against its paper's equations, and against torch's own."""

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
from ptblm.training.optimizer import Optimizer, make_optimizer, state_tensors
from ptblm.training.records import EpochDone, StepDone

NAMES = ["sgd", "momentum", "adam", "rmsprop"]
SHAPES = [(3, 4), (5,), (2, 3)]
# A rate that changes on the way, as schedules make it.
RATES = [0.1, 0.1, 0.05, 0.2, 0.003, 0.1, 0.1, 0.1, 0.02, 0.1]


def make_parameters(dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    source = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=source, dtype=dtype)) for shape in SHAPES]


def make_gradients(step: int) -> list[Tensor]:
    """Of very unlike sizes, some zero."""
    source = torch.Generator().manual_seed(100 + step)
    gradients = [torch.randn(shape, generator=source, dtype=torch.float64) for shape in SHAPES]
    gradients[0][1] = 0
    return [gradient * 10.0 ** -(4 * n) for n, gradient in enumerate(gradients)]


def make(parameters: list[nn.Parameter], name: str, **constants: float) -> Optimizer:
    settings: dict[str, Any] = {"optimizer": {"type": name, **constants}}
    return make_optimizer(parameters, TrainingConfig(**settings))


def values_after(optimizer: Optimizer, rates: list[float] = RATES) -> list[np.ndarray]:
    for step, rate in enumerate(rates):
        for parameter, gradient in zip(optimizer.parameters, make_gradients(step), strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        optimizer.step(rate)
    return [parameter.detach().numpy().copy() for parameter in optimizer.parameters]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("beta1", "beta2", "epsilon"), [(0.9, 0.999, 1e-8), (0.0, 0.5, 1e-3), (0.5, 0.0, 1.0)]
)
def test_adam_is_the_papers(beta1: float, beta2: float, epsilon: float) -> None:
    """Kingma & Ba 2015, algorithm 1, line by line."""
    theta = [parameter.detach().numpy().copy() for parameter in make_parameters()]
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


TorchOptimizer = Callable[[list[nn.Parameter]], torch.optim.Optimizer]


@pytest.mark.parametrize(
    ("name", "constants", "torchs"),
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
        # So large an epsilon shows where it stands.
        (
            "rmsprop",
            {"decay": 0.5, "epsilon": 0.3},
            lambda p: torch.optim.RMSprop(p, alpha=0.5, eps=0.3),
        ),
    ],
    ids=["sgd", "momentum", "momentum 0.5", "adam", "adam, others", "rmsprop", "rmsprop, others"],
)
def test_each_is_as_torchs(name: str, constants: dict[str, float], torchs: TorchOptimizer) -> None:
    parameters = make_parameters()
    theirs = torchs(parameters)
    for step, rate in enumerate(RATES):
        theirs.param_groups[0]["lr"] = rate
        for parameter, gradient in zip(parameters, make_gradients(step), strict=True):
            parameter.grad = gradient
        theirs.step()
    expected = [parameter.detach().numpy() for parameter in parameters]
    assert_close(values_after(make(make_parameters(), name, **constants)), expected)


def test_momentum_without_momentum_is_plain_descent() -> None:
    momentum = values_after(make(make_parameters(), "momentum", momentum=0.0))
    assert_close(momentum, values_after(make(make_parameters(), "sgd")))


@pytest.mark.parametrize("name", NAMES)
def test_a_gradient_that_is_not_there_is_zero(name: str) -> None:
    with_none, with_zero = make(make_parameters(), name), make(make_parameters(), name)
    for step in range(4):
        for optimizer in (with_none, with_zero):
            gradients = make_gradients(step)
            for parameter, gradient in zip(optimizer.parameters, gradients, strict=True):
                parameter.grad = gradient
            if step % 2:
                missing = None if optimizer is with_none else torch.zeros(SHAPES[1]).double()
                optimizer.parameters[1].grad = missing
            optimizer.step(0.1)
    for one, other in zip(with_none.parameters, with_zero.parameters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_saved_is_all_that_there_is(name: str) -> None:
    """Five steps, then five more by another that was given the state: as ten in a row, in fp32."""
    whole = values_after(make(make_parameters(torch.float32), name))
    first = make(make_parameters(torch.float32), name)
    values_after(first, RATES[:5])
    saved = first.state_dict()
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in first.parameters]
    second = make(copies, name)
    assert second.state_dict().keys() == saved.keys()
    second.load_state_dict(saved)
    for first_tensor, second_tensor in zip(
        state_tensors(first), state_tensors(second), strict=True
    ):
        assert first_tensor is not second_tensor
        assert torch.equal(first_tensor, second_tensor)
    for step, rate in list(enumerate(RATES))[5:]:
        for parameter, gradient in zip(second.parameters, make_gradients(step), strict=True):
            parameter.grad = gradient.float()
        second.step(rate)
    for one, other in zip(whole, second.parameters, strict=True):
        assert np.array_equal(one, other.detach().numpy())


def test_whatever_the_config_allows_can_be_computed() -> None:
    """In fp32, with gradients of zero among them: no overflow of a factor, no quotient 0 / 0."""
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
    for name in NAMES:
        for chosen in constants[name]:
            for rate in (1e-300, 1e30):
                optimizer = make(make_parameters(torch.float32), name, **chosen)
                for values in values_after(optimizer, [rate] * 3):
                    assert np.isfinite(values).all(), (name, chosen, rate)


@pytest.mark.parametrize(("name", "count"), [("sgd", 0), ("momentum", 1), ("adam", 2)])
def test_what_it_keeps_has_the_size_of_the_weights(name: str, count: int) -> None:
    optimizer = make(make_parameters(), name)
    assert [tuple(tensor.shape) for tensor in state_tensors(optimizer)] == SHAPES * count


@pytest.mark.parametrize(
    ("name", "rate"), [("sgd", 1.0), ("momentum", 0.1), ("adam", 0.01), ("rmsprop", 0.01)]
)
def test_each_learns_the_sample_corpus(name: str, rate: float) -> None:
    """In one epoch, from no better than chance to better than any model that sees no context."""
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
