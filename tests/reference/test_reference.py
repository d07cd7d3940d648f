"""The NumPy model: gradients by finite differences, and torch's model number for number."""

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
    """The reference has TensorFlow's layout, so ptblm's own conversion serves for it too."""
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


def test_gradients_by_finite_differences() -> None:
    """Every number of every parameter, from a state that is not zero."""
    source = np.random.default_rng(1)
    parameters = make()
    inputs, targets = source.integers(V, size=(2, T, B))
    state: State = [(source.normal(size=(B, H)), source.normal(size=(B, H))) for _ in range(LAYERS)]
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


def test_loss_and_gradients_equal_the_torch_models() -> None:
    source = np.random.default_rng(2)
    parameters = make()
    inputs, targets = source.integers(V, size=(2, T, B))
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
    theirs = to_tensorflow_weights(
        model, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    )
    for name, ours in tensorflow_names(gradients).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for ours_layer, theirs_layer in zip(state, torch_state, strict=True):
        for one, other in zip(ours_layer, theirs_layer, strict=True):
            np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_fifty_steps_equal_the_trainers() -> None:
    """The trainer that `train` uses, and this: cost and norm at each step, weights at the end."""
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
        valid=batches,
        test=batches,
    )
    state = zero_state(parameters, B)
    clipped = 0
    steps = [record for record in trainer.records() if isinstance(record, StepDone)]
    assert len(steps) == 50
    for number, record in enumerate(steps):
        inputs, targets = (part.T for part in batches[number])
        cost, gradients, state = loss_and_gradients(parameters, inputs, targets, state)
        norm = clip(gradients, config.max_grad_norm)
        sgd(parameters, gradients, config.learning_rate)
        assert record.nll / B == pytest.approx(cost, rel=1e-11)
        assert record.grad_norm == pytest.approx(norm, rel=1e-10)
        clipped += norm > config.max_grad_norm
    assert clipped > 5
    theirs = to_tensorflow_weights(trainer.model, trainer.model.state_dict())
    for name, ours in tensorflow_names(parameters).items():
        np.testing.assert_allclose(ours, theirs[name], rtol=1e-9, atol=1e-11, err_msg=name)


def test_adam_equals_torchs() -> None:
    source = np.random.default_rng(4)
    ours: Parameters = {"w": source.normal(size=(3, 2))}
    theirs = torch.nn.Parameter(torch.tensor(ours["w"]))
    adam = Adam(ours, rate=0.01)
    reference = torch.optim.Adam([theirs], lr=0.01)
    for _ in range(20):
        gradient = source.normal(size=(3, 2))
        adam.update(ours, {"w": gradient})
        theirs.grad = torch.tensor(gradient)
        reference.step()
    np.testing.assert_allclose(ours["w"], theirs.detach().numpy(), rtol=1e-12)


def test_adams_first_step_is_the_rate_itself() -> None:
    """(Kingma & Ba 2015, section 2.1): m_hat / sqrt(v_hat) is the gradient's sign at first."""
    parameters: Parameters = {"w": np.array([1.0, 2.0])}
    Adam(parameters, rate=0.1).update(parameters, {"w": np.array([3e-3, -50.0])})
    np.testing.assert_allclose(parameters["w"], [0.9, 2.1], rtol=1e-5)


def test_samples_follow_the_models_distribution() -> None:
    """With no LSTM to speak of, the softmax's bias alone decides."""
    parameters = make(scale=0.0)
    p = np.array([0.5, 0.25, 0.25, 0, 0, 0, 0, 0, 0])
    parameters["softmax_b"] = np.log(p + 1e-30)
    ids = sample(parameters, 0, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(np.bincount(ids, minlength=V) / 4000, p, atol=0.03)


def test_it_learns_a_text_and_needs_no_torch(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text((REPOSITORY / "data" / "sample" / "valid.txt").read_text())
    code = (
        "import sys; sys.argv = ['ptblm.reference', sys.argv[1]]\n"
        "import ptblm.reference.__main__ as reference\n"
        "reference.SECONDS = 11\n"
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
    assert bits[-1] < 4  # 3.3 on a machine that has nothing else to do


def test_it_is_short_enough_to_read() -> None:
    files = (REPOSITORY / "ptblm" / "reference").glob("*.py")
    code = [
        line
        for file in files
        for line in file.read_text().splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]
    assert len(code) < 250
