"""The NumPy model: gradients against finite differences, results against the torch model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.backend.precision import Precision
from ptblm.config.model import ModelConfig
from ptblm.config.schedules import TutorialSchedule
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify
from ptblm.model.build import build_model
from ptblm.model.interop.tensorflow import load_tensorflow_weights, to_tensorflow_weights
from ptblm.model.language_model import LanguageModel
from ptblm.reference.lstm import (
    Parameters,
    State,
    initial_parameters,
    loss_and_gradients,
    zero_state,
)
from ptblm.reference.training import Adam, clip, sample, sgd
from ptblm.training.records import StepDone
from ptblm.training.trainer import Trainer
from tests.conftest import REPOSITORY, plain_environment

V, H, LAYERS, B, T = 9, 5, 2, 3, 4


def make(scale: float = 0.6) -> Parameters:
    return initial_parameters(V, H, LAYERS, scale, np.random.default_rng(0))


def tensorflow_names(values: Parameters) -> Parameters:
    """Names parameters as in TensorFlow, whose layout the NumPy model uses."""
    names = {"embedding": "Model/embedding"}
    names |= {"softmax_w": "Model/softmax_w", "softmax_b": "Model/softmax_b"}
    cell = "Model/RNN/multi_rnn_cell/cell_{}/basic_lstm_cell/{}"
    for layer in range(LAYERS):
        names[f"kernel{layer}"] = cell.format(layer, "kernel")
        names[f"bias{layer}"] = cell.format(layer, "bias")
    return {names[name]: value for name, value in values.items()}


def torch_model(parameters: Parameters) -> LanguageModel:
    model = build_model(ModelConfig(hidden_size=H, num_layers=LAYERS), V).double()
    load_tensorflow_weights(model, tensorflow_names(parameters))
    return model


def test_gradients_match_finite_differences() -> None:
    """Checks each element of each parameter, with a nonzero initial state."""
    rng = np.random.default_rng(1)
    parameters = make()
    inputs, targets = rng.integers(V, size=(2, T, B))
    state: State = [(rng.normal(size=(B, H)), rng.normal(size=(B, H))) for _ in range(LAYERS)]
    _, gradients, _ = loss_and_gradients(parameters, inputs, targets, state)
    for name, parameter in parameters.items():
        numeric = np.zeros_like(parameter)
        for index in np.ndindex(*parameter.shape):
            before = parameter[index]
            costs = []
            for step in (1e-5, -1e-5):
                parameter[index] = before + step
                costs.append(loss_and_gradients(parameters, inputs, targets, state)[0])
            parameter[index] = before
            numeric[index] = (costs[0] - costs[1]) / 2e-5
        error = np.abs(gradients[name] - numeric).max() / np.abs(numeric).max()
        assert error < 1e-6, (name, error)


def test_loss_and_gradients_match_the_torch_model() -> None:
    rng = np.random.default_rng(2)
    parameters = make()
    inputs, targets = rng.integers(V, size=(2, T, B))
    cost, gradients, state = loss_and_gradients(
        parameters, inputs, targets, zero_state(parameters, B)
    )

    model = torch_model(parameters)
    nll, torch_state = model.nll(
        torch.tensor(inputs.T), torch.tensor(targets.T), model.initial_state(B)
    )
    torch_cost = nll.sum() / B
    torch.autograd.backward(torch_cost)
    assert cost == pytest.approx(torch_cost.item(), rel=1e-12)
    torch_gradients = to_tensorflow_weights(
        model, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    )
    for name, gradient in tensorflow_names(gradients).items():
        np.testing.assert_allclose(
            gradient, torch_gradients[name], rtol=1e-9, atol=1e-12, err_msg=name
        )
    for layer, torch_layer in zip(state, torch_state, strict=True):
        for part, torch_part in zip(layer, torch_layer, strict=True):
            np.testing.assert_allclose(part, torch_part.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_fifty_steps_match_the_trainer() -> None:
    """Compares cost and gradient norm of each step, and the final weights."""
    ids = np.random.default_rng(3).integers(V, size=B * (50 * T + 1)).astype(np.int32)
    batches = batchify(ids, B, T, "train")
    parameters = make(scale=0.3)
    config = TrainingConfig(
        batch_size=B,
        num_steps=T,
        epochs=1,
        schedule=TutorialSchedule(full_rate_epochs=1),
        learning_rate=0.5,
        max_grad_norm=1.0,
    )
    trainer = Trainer(
        torch_model(parameters),
        config,
        Precision("fp32", torch.device("cpu")),
        train=batches,
        valid=ids,
        test=None,
    )
    state = zero_state(parameters, B)
    clipped = 0
    steps = [record for record in trainer.records() if isinstance(record, StepDone)]
    assert len(steps) == 50
    for index, record in enumerate(steps):
        inputs, targets = (part.T for part in batches[index])
        cost, gradients, state = loss_and_gradients(parameters, inputs, targets, state)
        norm = clip(gradients, config.max_grad_norm)
        sgd(parameters, gradients, config.learning_rate)
        assert record.nll / B == pytest.approx(cost, rel=1e-11)
        assert record.grad_norm == pytest.approx(norm, rel=1e-10)
        clipped += norm > config.max_grad_norm
    assert clipped > 5
    trained = to_tensorflow_weights(trainer.model, trainer.model.state_dict())
    for name, weights in tensorflow_names(parameters).items():
        np.testing.assert_allclose(weights, trained[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_adam_matches_torch() -> None:
    rng = np.random.default_rng(4)
    parameters: Parameters = {"w": rng.normal(size=(3, 2))}
    torch_parameter = torch.nn.Parameter(torch.tensor(parameters["w"]))
    adam = Adam(parameters, rate=0.01)
    torch_adam = torch.optim.Adam([torch_parameter], lr=0.01)
    for _ in range(20):
        gradient = rng.normal(size=(3, 2))
        adam.update(parameters, {"w": gradient})
        torch_parameter.grad = torch.tensor(gradient)
        torch_adam.step()
    np.testing.assert_allclose(parameters["w"], torch_parameter.detach().numpy(), rtol=1e-12)


def test_first_step_of_adam_equals_the_learning_rate() -> None:
    """In the first step, m_hat / sqrt(v_hat) is ±1 (Kingma & Ba 2015, section 2.1)."""
    parameters: Parameters = {"w": np.array([1.0, 2.0])}
    Adam(parameters, rate=0.1).update(parameters, {"w": np.array([3e-3, -50.0])})
    np.testing.assert_allclose(parameters["w"], [0.9, 2.1], rtol=1e-5)


def test_samples_follow_the_predicted_distribution() -> None:
    """With zero weights, the distribution depends only on the bias of the softmax."""
    parameters = make(scale=0.0)
    p = np.array([0.5, 0.25, 0.25, 0, 0, 0, 0, 0, 0])
    parameters["softmax_b"] = np.log(p + 1e-30)
    ids = sample(parameters, 0, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(ids, minlength=V) / 4000, p, atol=0.03)


def test_command_learns_a_text_without_torch(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((REPOSITORY / "data" / "sample" / "valid.txt").read_text())
    # Each step reads the clock twice. If a reading takes 0.15 s, one minute is 200 steps.
    code = (
        "import itertools, sys, types; sys.argv = ['ptblm.reference', sys.argv[1]]\n"
        "import ptblm.reference.__main__ as reference\n"
        "clock = itertools.count(step=0.15)\n"
        "reference.time = types.SimpleNamespace(monotonic=clock.__next__)\n"
        "reference.main()\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(text)],
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    bits = [float(line.split()[2]) for line in result.stdout.splitlines() if "bits per" in line]
    assert bits[-1] < bits[0] < np.log2(40)
    assert bits[-1] < 3


def test_reference_has_fewer_than_250_lines() -> None:
    files = (REPOSITORY / "ptblm" / "reference").glob("*.py")
    code = [
        line
        for file in files
        for line in file.read_text().splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert len(code) < 250
