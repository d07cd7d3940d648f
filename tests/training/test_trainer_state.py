"""What a trainer is restored from: refused, with the trainer as before, unless all of it fits."""

import copy
import itertools
from typing import Any

import pytest
import torch

from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.training.optimizer import state_tensors
from ptblm.training.records import StepDone
from tests.training.small_trainer import (
    OPTIMIZERS,
    VOCABULARY,
    assert_same,
    make_trainer,
    weights,
)


def paths(saved: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every key of a nested dict and of every part of its lists."""
    if isinstance(saved, dict | list):
        parts = saved.items() if isinstance(saved, dict) else enumerate(saved)
        inner = [found for key, value in parts for found in paths(value, (*path, key))]
        keys = saved if isinstance(saved, dict) else range(len(saved))
        return [(*path, key) for key in keys] + inner
    return []


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_each_key_of_the_state_is_needed(optimizer: str) -> None:
    """Whatever is missing at whatever depth: refused, and the trainer is as before."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = trainer.state_dict()
    all_paths = paths(saved)
    assert len(all_paths) > 25
    for path in all_paths:
        incomplete = copy.deepcopy(saved)
        inner = incomplete
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        fresh = make_trainer(optimizer=optimizer)
        before = weights(fresh)
        with pytest.raises(StructureMismatchError):
            fresh.load_state_dict(incomplete)
        assert_same(before, weights(fresh))
        assert not any(tensor.any() for tensor in state_tensors(fresh.optimizer))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("train_state", "epoch"), "a"),
        (("train_state", "step"), 0),
        (("train_state", "batch"), 100),
        (("train_state", "nll"), None),
        (("train_state", "nll"), float("nan")),
        (("train_state", "seconds"), float("nan")),
        (("train_state", "seconds"), -1.0),
        (("train_state", "tokens"), 10**400),
        (("train_state", "tokens"), 0),
        (("train_state", "history"), []),
        (("train_state", "history", 0, "best"), 1),
        (("hidden_state",), []),
        (("hidden_state", 0, 0), torch.zeros(2, 6)),
        (("model", "softmax.bias"), torch.zeros(3)),
        (("model", "softmax.bias"), torch.zeros(VOCABULARY, dtype=torch.int64)),
        (("optimizer",), {"momentum": 1.0}),
    ],
    ids=range(16),
)
def test_each_part_of_the_state_must_fit(path: tuple[Any, ...], value: Any) -> None:
    trainer = make_trainer()
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    inner = saved
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(StructureMismatchError):
        make_trainer().load_state_dict(saved)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("updates",), torch.tensor(-1)),
        (("updates",), torch.tensor(12)),
        (("updates",), 11),
        (("updates",), torch.tensor(3.0)),
        (("mean.0",), torch.zeros(VOCABULARY, 5)),
        (("mean_square.1",), None),
        (("velocity.0",), torch.zeros(3)),
    ],
    ids=range(7),
)
def test_each_part_of_the_optimizers_state_must_fit(path: tuple[Any, ...], value: Any) -> None:
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    make_trainer(optimizer="adam").load_state_dict(saved)
    inner = saved["optimizer"]
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(StructureMismatchError):
        make_trainer(optimizer="adam").load_state_dict(saved)


def test_another_optimizers_state_is_refused() -> None:
    for ours, theirs in itertools.permutations(OPTIMIZERS, 2):
        with pytest.raises(StructureMismatchError, match="optimizer"):
            make_trainer(optimizer=ours).load_state_dict(
                make_trainer(optimizer=theirs).state_dict()
            )
