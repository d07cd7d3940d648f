"""Checkpoints: whole or refused, and never a way in for someone else's code."""

import os
import pickle
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm.checkpoint.format import (
    FORMAT,
    Checkpoint,
    current_versions,
    load_checkpoint,
    save_checkpoint,
)
from ptblm.config.loading import load_config
from ptblm.errors import CheckpointError


def make_checkpoint() -> Checkpoint:
    return Checkpoint(
        config=load_config("test").model_dump(),
        vocabulary=["<eos>", "ünï", "cat"],
        corpus={"name": "toy", "sha256": dict.fromkeys(("train", "valid", "test"), "0" * 64)},
        trainer={
            "model": {"weight": torch.arange(3000.0)},
            "optimizer": {},
            "loss_scaler": {},
            "state": [],
            "position": {"epoch": 2, "step": 7},
        },
        metrics_offset=12,
        versions=current_versions(),
    )


def content(checkpoint: Checkpoint) -> dict[str, Any]:
    return {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "last.pt"
    save_checkpoint(path, make_checkpoint())
    return path


def test_what_is_saved_is_loaded(saved: Path) -> None:
    loaded = load_checkpoint(saved)
    assert torch.equal(loaded.trainer["model"]["weight"], torch.arange(3000.0))
    assert loaded.vocabulary == ["<eos>", "ünï", "cat"]
    assert loaded.parsed_config() == load_config("test")
    assert loaded.metrics_offset == 12
    assert loaded.versions["torch"] == str(torch.__version__)
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize("name", [field.name for field in fields(Checkpoint)])
def test_without_any_one_field_it_is_refused(saved: Path, name: str) -> None:
    incomplete = content(load_checkpoint(saved))
    del incomplete[name]
    torch.save(incomplete, saved)
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": []}, "vocabulary"),
        ({"vocabulary": ["a", "a"]}, "a word is in it twice"),
        ({"vocabulary": ["a", 1]}, "not a list of words"),
        ({"vocabulary": None}, "list expected, found NoneType"),
        ({"corpus": {"name": "toy", "sha256": {"train": ""}}}, "corpus.sha256"),
        ({"corpus": None}, "dict expected"),
        ({"config": {"model": 3}}, "not sections of keys"),
        ({"trainer": {"model": {}}}, "trainer: not"),
        ({"metrics_offset": -1}, "below zero"),
        ({"metrics_offset": True}, "int expected, found bool"),
        ({"versions": []}, "dict expected"),
        ({"format": "1"}, "reads format"),
    ],
    ids=range(12),
)
def test_a_part_of_another_kind_is_refused(
    saved: Path, change: dict[str, Any], message: str
) -> None:
    torch.save({**content(load_checkpoint(saved)), **change}, saved)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


@pytest.mark.parametrize("section", ["data", "model", "training"])
def test_without_any_one_key_of_its_config_it_is_refused(saved: Path, section: str) -> None:
    """A default in its place would make it another model, or another run, without a word."""
    checkpoint = load_checkpoint(saved)
    whole = checkpoint.config[section]
    for key in whole:
        checkpoint.config[section] = {k: v for k, v in whole.items() if k != key}
        with pytest.raises(CheckpointError, match=f"lacks {section}.{key}"):
            checkpoint.parsed_config()
    checkpoint.config[section] = {**whole, "more": 1}
    with pytest.raises(CheckpointError, match="not usable"):
        checkpoint.parsed_config()


def test_a_field_too_many_and_another_format_are_refused(saved: Path) -> None:
    whole = content(load_checkpoint(saved))
    torch.save({**whole, "more": 1}, saved)
    with pytest.raises(CheckpointError, match="more: unknown"):
        load_checkpoint(saved)
    torch.save({**whole, "format": FORMAT + 1}, saved)
    with pytest.raises(CheckpointError, match=f"this ptblm reads format {FORMAT}"):
        load_checkpoint(saved)
    torch.save([1, 2], saved)
    with pytest.raises(CheckpointError, match="not a ptblm checkpoint"):
        load_checkpoint(saved)


def test_a_flipped_bit_is_found_or_harmless(saved: Path) -> None:
    """Torch itself loads a flipped weight without a word."""
    data = bytearray(saved.read_bytes())
    expected = content(load_checkpoint(saved))
    for position in range(0, len(data), 37):
        data[position] ^= 1 << (position % 8)
        saved.write_bytes(data)
        data[position] ^= 1 << (position % 8)
        try:
            loaded = content(load_checkpoint(saved))
        except CheckpointError:
            continue
        weight = loaded["trainer"]["model"].pop("weight")
        assert torch.equal(weight, torch.arange(3000.0)), position
        loaded["trainer"]["model"]["weight"] = expected["trainer"]["model"]["weight"]
        assert loaded == expected, position


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_that_was_cut_is_refused(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


class Payload:
    """Runs code when it is unpickled by whoever allows that."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


@pytest.mark.usefixtures("in_directory")
def test_a_strangers_code_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save({**content(make_checkpoint()), "vocabulary": Payload()}, path)
    with pytest.raises(CheckpointError, match=r"not safe to load: it names (posix|nt)\.mkdir"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not Path("owned").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint file"):
        load_checkpoint(tmp_path / "text.pt")
    with zipfile.ZipFile(tmp_path / "zip.pt", "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(CheckpointError, match="it has no data"):
        load_checkpoint(tmp_path / "zip.pt")


def test_a_failed_save_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(saved, make_checkpoint())
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["last.pt"]


def test_a_save_that_reads_back_wrong_is_not_taken(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()
    monkeypatch.setattr(zipfile.ZipFile, "testzip", lambda _: "data.pkl")
    with pytest.raises(CheckpointError, match="fails its checksum"):
        save_checkpoint(saved, make_checkpoint())
    monkeypatch.undo()
    assert saved.read_bytes() == before


@pytest.mark.parametrize("trainer", [None, [], {}, {"model": 5}])
def test_a_broken_checkpoint_of_format_1_is_refused(saved: Path, trainer: Any) -> None:
    torch.save({**content(make_checkpoint()), "format": 1, "trainer": trainer}, saved)
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)
