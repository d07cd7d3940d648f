"""A checkpoint from a stranger: what it may name, and what it may say of its sizes."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.inspection import SuspectError, inspect_checkpoint

Parts = dict[str, bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": torch.arange(100.0), "words": ["a", "b"]}, path)
    return path


def rewrite(path: Path, change: Callable[[Parts], None], compression: int = 0) -> None:
    """Changes a checkpoint's parts, and gives it right checksums again."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def replace_pickle(data: bytes) -> Callable[[Parts], None]:
    def change(parts: Parts) -> None:
        (name,) = (name for name in parts if name.endswith("data.pkl"))
        parts[name] = data

    return change


def test_a_good_one_passes(path: Path) -> None:
    inspect_checkpoint(path)
    rewrite(path, lambda _: None)
    inspect_checkpoint(path)


def test_a_storage_that_declares_more_or_less_than_it_has(path: Path) -> None:
    def grow(parts: Parts) -> None:
        (name,) = (name for name in parts if name.endswith("data/0"))
        parts[name] += bytes(4)

    rewrite(path, grow)
    with pytest.raises(SuspectError, match="declares another size"):
        inspect_checkpoint(path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**12),  # no bytes behind it, a terabyte once copied
        torch.zeros(1).expand(1000, 1000),
    ],
)
def test_a_tensor_that_declares_more_than_its_storage(path: Path, tensor: torch.Tensor) -> None:
    torch.save({"weight": tensor}, path)
    with pytest.raises(SuspectError, match="declares more than its storage has"):
        inspect_checkpoint(path)


@pytest.mark.parametrize(
    "value",
    [bytearray(3), {1, 2}, complex(1, 2), torch.Size([1]), torch.float32, torch.device("cpu")],
    ids=repr,
)
def test_only_the_names_that_checkpoints_use(path: Path, value: object) -> None:
    """Of these torch would load each; `bytearray(10**12)` would be a terabyte."""
    torch.save({"value": value}, path)
    with pytest.raises(SuspectError, match="not safe to load: it names"):
        inspect_checkpoint(path)


def test_a_memo_of_two_billion_places_allocates_nothing(path: Path) -> None:
    rewrite(path, replace_pickle(b"\x80\x02}r\xff\xff\xff\x7f."))
    inspect_checkpoint(path)


def test_a_pickle_that_is_none(path: Path) -> None:
    for data in (b"", b"hello", b"\x80\x02", pickle.dumps({"a": 1}, protocol=0)):
        rewrite(path, replace_pickle(data))
        with pytest.raises(SuspectError):
            inspect_checkpoint(path)


def test_compressed_parts_are_refused(path: Path) -> None:
    rewrite(path, lambda _: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(SuspectError, match="is compressed"):
        inspect_checkpoint(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_parts_of_one_name_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(SuspectError, match="one name"):
        inspect_checkpoint(path)


def test_a_zip_without_a_pickle_is_refused(path: Path) -> None:
    rewrite(path, lambda parts: parts.clear())
    with pytest.raises(SuspectError, match="no data"):
        inspect_checkpoint(path)


def test_a_length_that_is_declared_and_not_there_allocates_nothing(path: Path) -> None:
    rewrite(path, replace_pickle(b"\x80\x05\x96" + (10**12).to_bytes(8, "little") + b"."))
    with pytest.raises(SuspectError):
        inspect_checkpoint(path)


def test_parts_that_are_shared_over_and_over_are_refused(path: Path) -> None:
    """A thousand bytes that would print as a gigabyte."""
    value: list[object] = ["ha"]
    for _ in range(30):
        value = [value, value]
    torch.save({"value": value}, path)
    with pytest.raises(SuspectError, match="unfolds to more than its bytes"):
        inspect_checkpoint(path)
