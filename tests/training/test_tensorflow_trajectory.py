"""ptblm's own training, step by step, against the tutorial's run by TensorFlow itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.backend.matmul import onednn_is_exact, products_by
from ptblm.backend.precision import Precision
from ptblm.config.model import ModelConfig
from ptblm.config.schedules import TutorialSchedule
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify
from ptblm.model.build import build_model
from ptblm.model.interop.tensorflow import load_tensorflow_weights, to_tensorflow_weights
from ptblm.training import clipping
from ptblm.training import step as step_module
from ptblm.training.records import StepDone
from ptblm.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 30

# Relative to the largest number of each array.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-7}


EACH_PATH = pytest.mark.parametrize("path", ["fast", "onednn", "plain"], indirect=True)


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """The way that products and gradients are computed."""
    if request.param == "onednn" and not onednn_is_exact():
        pytest.skip("oneDNN is absent, or rounds")
    with products_by("onednn" if request.param == "onednn" else "torch"):
        yield request.param


def relative_error(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs, dtype=np.float64)
    error = np.abs(np.asarray(ours, dtype=np.float64) - theirs).max()
    return float(error / np.abs(theirs).max())


def make_trainer(
    golden: dict[str, Any], dtype: torch.dtype, max_grad_norm: float, *, plain: bool
) -> Trainer:
    config = ModelConfig(hidden_size=8, num_layers=2)
    model = build_model(config, vocab_size=50, plain=plain).to(dtype)
    load_tensorflow_weights(
        model, {k.removeprefix("init/"): v for k, v in golden.items() if k.startswith("init/")}
    )
    training = TrainingConfig(
        batch_size=4,
        num_steps=5,
        epochs=2,
        learning_rate=1.0,
        schedule=TutorialSchedule(full_rate_epochs=1, decay=0.5),
        max_grad_norm=max_grad_norm,
    )
    batches = batchify(golden["raw_data"], 4, 5, "train")
    return Trainer(
        model,
        training,
        Precision("fp32", torch.device("cpu")),
        train=batches,
        valid=batches,
        test=batches,
        fused=not plain,
    )


@EACH_PATH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("run", "max_grad_norm"),
    # 1.3 was a float32 in TensorFlow.
    [("tiny_trajectory", 1.0), ("tiny_strong_trajectory", float(np.float32(1.3)))],
)
def test_reproduces_tensorflow_step_by_step(
    run: str,
    max_grad_norm: float,
    dtype: torch.dtype,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Any,
) -> None:
    """Cost, norm, rate, state and weights of 30 steps, clipping and decay included."""
    golden = dict(np.load(GOLDEN / f"{run}.npz"))
    theirs = {k.removeprefix("f64/"): v for k, v in golden.items() if k.startswith("f64/")}
    if dtype == torch.float32:
        theirs = {k: v for k, v in golden.items() if not k.startswith("f64/")}
    trainer = make_trainer(golden, dtype, max_grad_norm, plain=path == "plain")

    own_norms: list[float] = []
    recorded: Iterator[float] = iter(theirs["grad_norm"].tolist())
    own_global_norm = clipping.global_norm

    def norm_for_the_clip(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
        """Ours; in the strong run TensorFlow's, which counts repeated words otherwise."""
        own = own_global_norm(parameters)
        own_norms.append(float(own))
        given = next(recorded)
        return torch.tensor(given, dtype=dtype) if run == "tiny_strong_trajectory" else own

    monkeypatch.setattr(step_module, "global_norm", norm_for_the_clip)

    costs, rates, states = [], [], []
    for record in trainer.records():
        if isinstance(record, StepDone):
            costs.append(record.nll / 4)
            rates.append(record.learning_rate)
            states.append(trainer.state)

    assert len(costs) == STEPS
    # An epoch's end zeroes the state, so the last step's is the one seen at its record.
    last_state = {
        f"state/layer{layer}/{name}": states[-1][layer][index].numpy()
        for layer in range(2)
        for index, name in enumerate(("h", "c"))
    }
    weights = to_tensorflow_weights(trainer.model, trainer.model.state_dict())
    errors = {
        "cost": relative_error(costs, theirs["cost"]),
        "grad_norm": relative_error(own_norms, theirs["grad_norm_dense"]),
        "learning_rate": relative_error(rates, golden["lr"]),
        **{k: relative_error(v, theirs[k]) for k, v in last_state.items()},
        **{k: relative_error(v, theirs[f"final/{k}"]) for k, v in weights.items()},
    }
    record_property("largest_error", max(errors.values()))
    print(f"\n{run} {dtype}: largest relative error {max(errors.values()):.1e}")
    assert max(errors.values()) < TOLERANCE[dtype], errors


@EACH_PATH
@pytest.mark.parametrize("run", ["tiny_trajectory", "tiny_strong_trajectory"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_raw_gradients_of_the_first_step(run: str, dtype: torch.dtype, path: str) -> None:
    golden = dict(np.load(GOLDEN / f"{run}.npz"))
    trainer = make_trainer(golden, dtype, 1.0, plain=path == "plain")
    model = trainer.model
    inputs, targets = (torch.tensor(golden[name][0]).long() for name in ("x", "y"))
    state = model.initial_state(4)
    trainer.stepper.backward(model, trainer.precision, inputs, targets, state, torch.Generator())
    gradients = {n: p.grad.to_dense() for n, p in model.named_parameters() if p.grad is not None}
    prefix = "f64/grad_step0/" if dtype == torch.float64 else "grad_step0/"
    for name, ours in to_tensorflow_weights(trainer.model, gradients).items():
        assert relative_error(ours, golden[prefix + name]) < TOLERANCE[dtype], name


def test_clipping_and_decay_took_part() -> None:
    """The figures would prove less if the clip had never fired or the rate never fallen."""
    golden = np.load(GOLDEN / "tiny_trajectory.npz")
    assert (golden["grad_norm"] > 1.0).sum() == 21
    assert sorted(set(golden["lr"].tolist())) == [0.5, 1.0]
