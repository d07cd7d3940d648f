"""Training with ptblm's trainer equals, step by step, runs of the tutorial in TensorFlow."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.backend.matmul import onednn_is_accurate, use_matmul_backend
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
from ptblm.training.step import Batch, forward_backward
from ptblm.training.trainer import Trainer

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 30

# Relative to the largest value of each array.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-7}


EACH_PATH = pytest.mark.parametrize("path", ["fused", "onednn", "unfused"], indirect=True)


@pytest.fixture
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """How matrix multiplications and gradients are computed."""
    if request.param == "onednn" and not onednn_is_accurate():
        pytest.skip("oneDNN is not available or not accurate here")
    with use_matmul_backend("onednn" if request.param == "onednn" else "default"):
        yield request.param


def relative_error(ours: Any, theirs: Any) -> float:
    theirs = np.asarray(theirs, dtype=np.float64)
    error = np.abs(np.asarray(ours, dtype=np.float64) - theirs).max()
    return float(error / np.abs(theirs).max())


def make_trainer(
    golden: dict[str, Any], dtype: torch.dtype, max_grad_norm: float, *, fused: bool
) -> Trainer:
    config = ModelConfig(hidden_size=8, num_layers=2)
    model = build_model(config, vocab_size=50, fused=fused).to(dtype)
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
        valid=golden["raw_data"],
        test=None,
    )


@EACH_PATH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("run", "max_grad_norm"),
    # 1.3 was a float32 in TensorFlow.
    [("tiny_trajectory", 1.0), ("tiny_strong_trajectory", float(np.float32(1.3)))],
)
def test_every_step_equals_tensorflow(
    run: str,
    max_grad_norm: float,
    dtype: torch.dtype,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Any,
) -> None:
    """Cost, norm, rate, hidden state and weights of 30 steps, with clipping and decay."""
    golden = dict(np.load(GOLDEN / f"{run}.npz"))
    theirs = {k.removeprefix("f64/"): v for k, v in golden.items() if k.startswith("f64/")}
    if dtype == torch.float32:
        theirs = {k: v for k, v in golden.items() if not k.startswith("f64/")}
    trainer = make_trainer(golden, dtype, max_grad_norm, fused=path != "unfused")

    own_norms: list[float] = []
    recorded: Iterator[float] = iter(theirs["grad_norm"].tolist())
    own_global_norm = clipping.global_norm

    def norm_for_the_clip(parameters: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        """Ours; in the strong run TensorFlow's, which counts the rows of repeated words singly."""
        own = own_global_norm(parameters)
        own_norms.append(float(own))
        given = next(recorded)
        return torch.tensor(given, dtype=own.dtype) if run == "tiny_strong_trajectory" else own

    monkeypatch.setattr(step_module, "global_norm", norm_for_the_clip)

    costs, rates, states = [], [], []
    for record in trainer.records():
        if isinstance(record, StepDone):
            costs.append(record.nll / 4)
            rates.append(record.learning_rate)
            states.append(trainer.hidden_state)

    assert len(costs) == STEPS
    # The end of an epoch resets the hidden state, so the last one is taken from the step record.
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
def test_first_gradients_equal_tensorflow(run: str, dtype: torch.dtype, path: str) -> None:
    golden = dict(np.load(GOLDEN / f"{run}.npz"))
    trainer = make_trainer(golden, dtype, 1.0, fused=path != "unfused")
    model = trainer.model
    inputs, targets = (torch.tensor(golden[name][0]).long() for name in ("x", "y"))
    state = model.initial_state(4)
    batch = Batch(inputs, targets)
    forward_backward(model, batch, state, torch.Generator(), trainer.precision)
    gradients = {n: p.grad.to_dense() for n, p in model.named_parameters() if p.grad is not None}
    prefix = "f64/grad_step0/" if dtype == torch.float64 else "grad_step0/"
    for name, ours in to_tensorflow_weights(trainer.model, gradients).items():
        assert relative_error(ours, golden[prefix + name]) < TOLERANCE[dtype], name


def test_golden_run_contains_clipping_and_decay() -> None:
    """Otherwise the golden values would not test them."""
    golden = np.load(GOLDEN / "tiny_trajectory.npz")
    assert (golden["grad_norm"] > 1.0).sum() == 21
    assert sorted(set(golden["lr"].tolist())) == [0.5, 1.0]
