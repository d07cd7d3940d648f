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
    # Few words are in the tail, so that a process may have none of them in a batch.
    "adaptive": {"cell": {"head": {"type": "adaptive", "cutoffs": [8, 11]}}},
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
def of_one_process(request: pytest.FixtureRequest) -> dict[str, dict[str, Tensor]]:
    """The results of one process."""
    results: list[dict[str, dict[str, Tensor]]] = run_in_processes(1, train_cases, request.param)
    return results[0]


# All cases in one test, because starting the processes takes longer than the cases.
@pytest.mark.parametrize("size", [2, 3])
def test_processes_train_as_one(of_one_process: dict[str, dict[str, Tensor]], size: int) -> None:
    dtype = of_one_process["sgd"]["weights"].dtype
    first, *others = run_in_processes(size, train_cases, dtype)
    differences = []
    for name, wanted in of_one_process.items():
        tolerance = 1e-12 if dtype == torch.float64 else 1e-6
        if dtype == torch.float32 and name == "optimizer muon":
            tolerance = 1e-2  # it orthogonalizes the updates in bf16
        for key, value in wanted.items():
            error = torch.linalg.vector_norm((first[name][key] - value).double())
            if not error <= tolerance * torch.linalg.vector_norm(value.double()):
                differences.append((name, key, error.item()))
            assert all(torch.equal(other[name][key], first[name][key]) for other in others), name
    assert not differences
