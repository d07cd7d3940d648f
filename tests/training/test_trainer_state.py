"""Restoring a trainer: any state that does not fit is rejected and changes nothing."""

import copy
import itertools
from typing import Any

import pytest
import torch

from ptblm.checkpoint.structure import StructureMismatchError
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
def test_every_key_of_the_state_is_required(optimizer: str) -> None:
    """At any depth; the trainer is unchanged."""
    trainer = make_trainer(optimizer=optimizer, learning_rate=OPTIMIZERS[optimizer])
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = trainer.state_dict()
    all_paths = paths(saved)
    assert len(all_paths) > 25
    assert ("optimizer",) in all_paths
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
        assert not fresh.optimizer.state_dict()


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
        (("model", "head.bias"), torch.zeros(3)),
        (("model", "head.bias"), torch.zeros(VOCABULARY, dtype=torch.int64)),
        (("optimizer",), {"momentum": 1.0}),
    ],
    ids=range(16),
)
def test_every_value_of_the_state_is_checked(path: tuple[Any, ...], value: Any) -> None:
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
    ("name", "value"),
    [
        ("head.bias.step", torch.zeros(2)),
        ("head.bias.step", 3.0),
        ("embedding.weight.exp_avg", torch.zeros(VOCABULARY, 5)),
        ("embedding.weight.exp_avg", torch.zeros(VOCABULARY, 6, dtype=torch.float64)),
        ("head.weight.exp_avg_sq", None),
        ("head.weight.momentum_buffer", torch.zeros(VOCABULARY, 6)),
        ("tail.weight.exp_avg", torch.zeros(VOCABULARY, 6)),
    ],
    ids=range(7),
)
def test_every_tensor_of_the_optimizer_is_checked(name: str, value: Any) -> None:
    trainer = make_trainer(optimizer="adam", learning_rate=0.01)
    for record in trainer.records():
        if isinstance(record, StepDone) and record.step == 11:
            break
    saved = copy.deepcopy(trainer.state_dict())
    make_trainer(optimizer="adam").load_state_dict(saved)
    saved["optimizer"][name] = value
    with pytest.raises(StructureMismatchError, match="optimizer"):
        make_trainer(optimizer="adam").load_state_dict(saved)


def test_state_of_another_optimizer_is_rejected() -> None:
    saved = {}
    for name in OPTIMIZERS:
        trainer = make_trainer(optimizer=name)
        next(trainer.records())
        saved[name] = trainer.state_dict()
    pairs = set(itertools.permutations(OPTIMIZERS, 2))
    for ours, theirs in pairs - {("adam", "adamw"), ("adamw", "adam")}:  # have the same state
        with pytest.raises(StructureMismatchError, match="optimizer"):
            make_trainer(optimizer=ours).load_state_dict(saved[theirs])
