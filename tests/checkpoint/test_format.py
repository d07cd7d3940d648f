"""Checkpoints are loaded completely or rejected, and never run code from the file."""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ptblm.checkpoint import tensor_file
from ptblm.checkpoint.document import FORMAT
from ptblm.checkpoint.format import (
    Checkpoint,
    current_versions,
    load_checkpoint,
    save_checkpoint,
)
from ptblm.checkpoint.tensor_file import read_tensor_file, write_tensor_file
from ptblm.config.loading import load_config
from ptblm.errors import CheckpointError, DamagedCheckpointError


def make_checkpoint(**changes: Any) -> Checkpoint:
    fields: dict[str, Any] = {
        "config": load_config("test").model_dump(),
        "vocabulary": {"tokens": ["<eos>", "ünï", "cat"], "counts": [3, 2, 1]},
        "corpus": {"name": "toy", "sha256": dict.fromkeys(("train", "valid", "test"), "0" * 64)},
        "model": {"weight": torch.arange(3000.0), "bias": torch.ones(3)},
        "optimizer": {"mean.0": torch.zeros(2, 3)},
        "hidden_state": [[torch.ones(1, 2), torch.zeros(1, 2)], [torch.ones(1)]],
        "train_state": {"epoch": 2, "step": 7},
        "metrics_offset": 12,
        "versions": current_versions(),
        "computing": {
            "device": "cpu",
            "hardware": "AMD EPYC",
            "threads": 2,
            "processes": 1,
            "matmul": "onednn",
            "kernel": "fused",
            "cuda_graph": False,
            "cell_source": "",
        },
    }
    return Checkpoint(**{**fields, **changes})


def assert_equal(one: Any, other: Any) -> None:
    """Equal to the bit, with the same types, in nested structures."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        ours, theirs = one.contiguous().reshape(-1), other.contiguous().reshape(-1)
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for ours, theirs in zip(one, other, strict=True):
            assert_equal(ours, theirs)
    else:
        assert one == other or (one != one and other != other)


def assert_same_checkpoint(one: Checkpoint, other: Checkpoint) -> None:
    for field in dataclasses.fields(Checkpoint):
        if field.name != "path":
            assert_equal(getattr(one, field.name), getattr(other, field.name))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, make_checkpoint())
    return path


ORIGIN = {"file": "m.pt", "sha256": "0" * 64, "kind": "examples"}


def test_origin_of_an_imported_model_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "imported.safetensors"
    save_checkpoint(path, make_checkpoint(imported_from=ORIGIN))
    assert load_checkpoint(path).imported_from == ORIGIN


def change_document(path: Path, **changes: Any) -> None:
    """Changes a file's document, and gives the file a correct digest again."""
    document, tensors = read_tensor_file(path)
    write_tensor_file(path, {**document, **changes}, tensors)


def test_checkpoint_round_trips(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert_same_checkpoint(loaded, make_checkpoint())
    assert loaded.parsed_config() == load_config("test")
    assert loaded.parsed_vocabulary().counts == (3, 2, 1)
    assert [path.name for path in saved.parent.iterdir()] == ["last.safetensors"]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)
TENSORS = st.builds(
    lambda dtype, shape, seed: (
        torch.randint(
            0,
            2 if dtype == torch.bool else 256,
            (*shape, dtype.itemsize),
            generator=torch.Generator().manual_seed(seed),
        )
        .to(torch.uint8)
        .view(dtype)
        .squeeze(-1)
    ),
    st.sampled_from(list(tensor_file.DTYPES.values())),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
NAMED_TENSORS = st.dictionaries(st.text(st.characters(codec="utf-8")), TENSORS, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    train_state=st.dictionaries(st.text(), JSON_VALUES, max_size=3),
    model=NAMED_TENSORS,
    optimizer=NAMED_TENSORS,
    hidden_state=st.lists(st.lists(TENSORS, max_size=3), max_size=3),
)
def test_random_nested_state_round_trips(
    tmp_path_factory: pytest.TempPathFactory, **parts: Any
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    checkpoint = make_checkpoint(**parts)
    save_checkpoint(path, checkpoint)
    assert_same_checkpoint(load_checkpoint(path), checkpoint)


def test_non_finite_numbers_round_trip(saved: Path) -> None:
    state = {"epoch": 0, "step": 0, "values": [math.inf, -math.inf, math.nan, -0.0, 5e-324, 0.1]}
    weights = {"weight": torch.tensor([math.nan, math.inf, -0.0])}
    save_checkpoint(saved, make_checkpoint(train_state=state, model=weights))
    loaded = load_checkpoint(saved)
    assert repr(loaded.train_state) == repr(state)
    assert_equal(loaded.model, weights)


def test_shared_and_strided_tensors_are_saved_by_value(saved: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {"base": base, "tied": base, "transposed": base.T, "column": base[:, 1]}
    tensors["expanded"] = base[0, 0].expand(2, 3)
    save_checkpoint(saved, make_checkpoint(model=tensors))
    assert_equal(load_checkpoint(saved).model, tensors)


@pytest.mark.parametrize(
    "name",
    json.loads(json.dumps(["format", "hidden_state"]))
    + [
        f.name
        for f in dataclasses.fields(Checkpoint)
        if f.name
        not in (
            *("model", "average", "short_average", "optimizer", "hidden_state"),
            "format",
            "path",
        )
    ],
)
def test_each_key_of_the_document_is_needed(saved: Path, name: str) -> None:
    document, tensors = read_tensor_file(saved)
    del document[name]
    write_tensor_file(saved, document, tensors)
    with pytest.raises(CheckpointError, match=f"{name}: missing|format"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["0.0", "0.1", "1.0"])
def test_each_tensor_of_the_hidden_state_is_needed(saved: Path, name: str) -> None:
    document, tensors = read_tensor_file(saved)
    tensor = tensors.pop(f"hidden_state.{name}")
    write_tensor_file(saved, document, tensors)
    with pytest.raises(DamagedCheckpointError, match="hidden_state: 2 tensors, not 3"):
        load_checkpoint(saved)
    write_tensor_file(saved, document, {**tensors, "hidden_state.7.0": tensor})
    with pytest.raises(DamagedCheckpointError, match=f"hidden_state.{name}: missing"):
        load_checkpoint(saved)


def test_unknown_tensor_is_rejected(saved: Path) -> None:
    document, tensors = read_tensor_file(saved)
    write_tensor_file(saved, document, {**tensors, "other.weight": torch.zeros(1)})
    with pytest.raises(DamagedCheckpointError, match=r"other.weight: unknown"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": {"tokens": [], "counts": []}}, "not a list of tokens"),
        ({"vocabulary": {"tokens": ["a", "a"], "counts": [1, 1]}}, "a token occurs twice"),
        ({"vocabulary": {"tokens": ["a", 1], "counts": [1, 1]}}, "not a list of tokens"),
        ({"vocabulary": {"tokens": ["a"], "counts": []}}, "not a count for each token"),
        ({"vocabulary": {"tokens": ["a"], "counts": [-1]}}, "not a count for each token"),
        ({"vocabulary": {"tokens": ["a"]}}, "vocabulary.counts: missing"),
        ({"vocabulary": None}, "dict expected, found NoneType"),
        ({"corpus": {"name": "toy", "sha256": {"train": ""}}}, "corpus.sha256"),
        ({"corpus": None}, "dict expected"),
        ({"config": {"model": 3}}, "not sections of keys"),
        ({"train_state": []}, "train_state: dict expected"),
        ({"hidden_state": [3, -1]}, "not a number of tensors for each layer"),
        ({"hidden_state": [10**12]}, "3 tensors, not 1000000000000"),
        ({"metrics_offset": -1}, "below zero"),
        ({"metrics_offset": True}, "int expected, found bool"),
        ({"versions": []}, "dict expected"),
        ({"versions": {"torch": 2}}, "versions.(ptblm|python): missing"),
        ({"computing": {"device": "cpu"}}, "computing.*: missing"),
        ({"more": 1}, "more: unknown"),
        ({"format": "1"}, "reads format"),
        ({"format": True}, "reads format"),
        ({"imported_from": {"file": "m.pt", "sha256": "0" * 64}}, "imported_from.kind: missing"),
        ({"imported_from": {**ORIGIN, "sha256": "0"}}, "imported_from: not a file"),
        ({"imported_from": {**ORIGIN, "file": "a/m.pt"}}, "imported_from: not a file"),
        ({"imported_from": "m.pt"}, "imported_from: dict expected"),
    ],
    ids=range(25),
)
def test_wrong_part_of_the_document_is_rejected(
    saved: Path, change: dict[str, Any], message: str
) -> None:
    change_document(saved, **change)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


def test_unknown_format_is_not_damage(saved: Path) -> None:
    """A damaged file is replaced by an older checkpoint; one of a newer ptblm must stay."""
    change_document(saved, format=FORMAT + 1)
    with pytest.raises(CheckpointError, match=f"this ptblm reads format {FORMAT}") as caught:
        load_checkpoint(saved)
    assert not isinstance(caught.value, DamagedCheckpointError)
    assert str(torch.__version__) in str(caught.value)


@pytest.mark.parametrize("section", ["data", "model", "training"])
def test_each_key_of_the_config_is_needed(saved: Path, section: str) -> None:
    """A default instead of the missing value would silently be another model or run."""
    checkpoint = load_checkpoint(saved)
    whole = checkpoint.config[section]
    for key in whole:
        checkpoint.config[section] = {k: v for k, v in whole.items() if k != key}
        with pytest.raises(CheckpointError, match=f"lacks {section}.{key}"):
            checkpoint.parsed_config()
    checkpoint.config[section] = {**whole, "more": 1}
    with pytest.raises(CheckpointError, match="not valid"):
        checkpoint.parsed_config()


def test_failed_save_keeps_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, make_checkpoint())
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.safetensors"]


@pytest.mark.parametrize("position", [3, 100, 5000, -1])
def test_save_that_reads_back_wrong_keeps_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    before = saved.read_bytes()
    sync = os.fsync

    def bad_disk(descriptor: int) -> None:
        sync(descriptor)
        for part in saved.parent.glob("*.part"):
            data = bytearray(part.read_bytes())
            data[position] ^= 4
            part.write_bytes(data)

    monkeypatch.setattr(os, "fsync", bad_disk)
    with pytest.raises(DamagedCheckpointError, match="bytes read back differ"):
        save_checkpoint(saved, make_checkpoint())
    monkeypatch.undo()
    assert saved.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"extra": 5}}, "model.extra is a int, not a tensor"),
        ({"model": {"w": torch.zeros(2, device="meta")}}, "model.w cannot be stored"),
        ({"model": {"w": torch.eye(2).to_sparse()}}, "model.w cannot be stored"),
        ({"train_state": {"epoch": object()}}, "cannot be saved"),
    ],
    ids=range(4),
)
def test_what_cannot_be_stored_is_named(saved: Path, change: dict[str, Any], message: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=message):
        save_checkpoint(saved, make_checkpoint(**change))
    assert saved.read_bytes() == before
