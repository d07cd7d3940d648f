"""Two and three processes train as one process: gradients, weights, metrics, checkpoints."""

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.backend.distributed import World
from ptblm.training.records import EpochDone, StepDone
from ptblm.training.trainer import Trainer
from tests.process_group import run_in_processes
from tests.training.small_trainer import CELLS, DROPOUT, OPTIMIZERS, make_trainer

# Five rows in two or three processes: the processes have different numbers of rows.
BASE: dict[str, Any] = {"batch_size": 5, "epochs": 2, "num_steps": 3}
EVERYWHERE: dict[str, Any] = {"cell": {"dropout": DROPOUT}}

CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "without dropout": {"cell": {"dropout": 0.0}},
    "dropout everywhere": EVERYWHERE,
    "unfused": {**EVERYWHERE, "fused": False},
    "tied": {"cell": {"tie_embeddings": True}},
    "learned initial state": {"cell": {"initial_state": "learned"}},
    "learned, adam": {
        "cell": {"initial_state": "learned"},
        "optimizer": "adam",
        "learning_rate": 0.01,
    },
    "weight decay": {"weight_decay": 0.01},
    "mixture": {"cell": {"head": {"type": "mixture", "components": 3, "dropout": 0.3}}},
    "regularizers": {
        "activation_regularization": 1.0,
        "temporal_activation_regularization": 0.5,
    },
    "rotated streams": {"streams": "rotated"},
    "dropped states": {"drop_state": 0.3},
    "random steps": {"random_num_steps": True, "num_steps": 6},
    "average": {"average": {"type": "ema", "decay": 0.9}},
    "one row each": {"batch_size": 3},
    "as many ids as words": {"optimizer": "adam", "learning_rate": 0.01, "batch_size": 7},
    **{f"cell {name}": {"cell": {"cell": name, "dropout": 0.3}} for name in CELLS},
    **{
        f"optimizer {name}": {"optimizer": name, "learning_rate": rate}
        for name, rate in OPTIMIZERS.items()
    },
}


def trained(trainer: Trainer) -> dict[str, Any]:
    """The metrics and the last gradients, weights and saved state of a whole run."""
    steps, epochs = [], []
    gradients: list[Tensor] = []
    for record in trainer.records():
        if isinstance(record, StepDone):
            steps.append([record.nll, record.grad_norm, record.tokens])
            parameters = trainer.model.parameters()
            gradients = [p.grad.to_dense() for p in parameters if p.grad is not None]
        elif isinstance(record, EpochDone):
            epochs.append([record.train_perplexity, record.valid_perplexity])
    return {
        "steps": torch.tensor(steps, dtype=torch.float64),
        "epochs": torch.tensor(epochs, dtype=torch.float64),
        "gradients": _vector(gradients),
        "weights": _vector(trainer.model.parameters()),
        "average": _vector(trainer.averages.state_dict()["average"].values()),
    }


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([torch.empty(0), *(tensor.detach().flatten() for tensor in tensors)])


def train_cases(world: World, dtype: torch.dtype) -> dict[str, dict[str, Any]]:
    torch.set_default_dtype(dtype)
    results = {}
    for name, case in CASES.items():
        results[name] = trained(make_trainer(world=world, **{**BASE, **case}))
    return results


@pytest.fixture(scope="module", params=[torch.float64, torch.float32], ids=str)
def results(request: pytest.FixtureRequest) -> dict[int, list[dict[str, dict[str, Tensor]]]]:
    """The results of each process, by the number of processes."""
    return {size: run_in_processes(size, train_cases, request.param) for size in (1, 2, 3)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [2, 3])
def test_processes_train_as_one(
    results: dict[int, list[dict[str, dict[str, Tensor]]]], size: int, name: str
) -> None:
    wanted, found = results[1][0][name], results[size][0][name]
    assert found.keys() == wanted.keys()
    tolerance = 1e-12 if wanted["weights"].dtype == torch.float64 else 1e-6
    if tolerance > 1e-12 and name == "optimizer muon":
        tolerance = 1e-2  # it orthogonalizes the updates in bf16
    for key, value in wanted.items():
        error = torch.linalg.vector_norm((found[key] - value).double())
        assert error <= tolerance * torch.linalg.vector_norm(value.double()), key


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_have_the_same_weights(
    results: dict[int, list[dict[str, dict[str, Tensor]]]], size: int, name: str
) -> None:
    first, *others = (result[name] for result in results[size])
    for other in others:
        for key, value in first.items():
            assert torch.equal(other[key], value), key
