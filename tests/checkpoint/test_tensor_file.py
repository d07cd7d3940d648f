"""Files from a broken disk or a stranger: each byte verified, each size checked first."""

import hashlib
import json
import os
import pickle
import resource
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from ptblm.checkpoint import tensor_file
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.checkpoint.tensor_file import TensorFileError, read_tensor_file, write_tensor_file
from ptblm.errors import CheckpointError, DamagedCheckpointError
from tests.checkpoint.test_format import make_checkpoint
from tests.conftest import plain_environment

Header = dict[str, Any]
WEIGHT = torch.arange(40.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"weight": WEIGHT, "flag": torch.tensor([True, False]), "bias": torch.ones(3)}
    write_tensor_file(path, {"a": 1}, tensors)
    return path


def signed(header: bytes, data: bytes, length: int | None = None) -> bytes:
    """A file with a correct digest around any header and data."""
    prefix = (len(header) if length is None else length).to_bytes(8, "little")
    digest = hashlib.sha256(prefix + header + data).hexdigest().encode()
    return prefix + header.replace(b"0" * 64, digest, 1) + data


def rewrite(path: Path, change: Callable[[Header], Any], data: bytes | None = None) -> None:
    """Changes a file's header, and signs the file again."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"]["sha256"] = "0" * 64
    change(header)
    text = json.dumps(header, separators=(",", ":")).encode()
    path.write_bytes(signed(text, content[8 + length :] if data is None else data))


def test_resigned_file_is_read(path: Path) -> None:
    """The helper itself is right, so the rejections below have the reasons they name."""
    rewrite(path, lambda _: None)
    assert torch.equal(read_tensor_file(path)[1]["weight"], WEIGHT)


def test_the_safetensors_library_reads_it(path: Path) -> None:
    loaded = safetensors.torch.load_file(path)
    assert torch.equal(loaded["weight"], WEIGHT)
    assert loaded["flag"].tolist() == [True, False]
    with safetensors.safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["ptblm"]) == {"a": 1}


def test_flipped_bit_in_each_byte_is_found(path: Path) -> None:
    """In the header's length, the JSON, the metadata, the digest, the padding and the tensors."""
    data = bytearray(path.read_bytes())
    for position in range(len(data)):
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)
        data[position] ^= 1 << (position % 8)
        with pytest.raises(TensorFileError):
            read_tensor_file(path)


def test_flipped_bit_in_a_checkpoint_counts_as_damage(path: Path) -> None:
    save_checkpoint(path, make_checkpoint())
    data = bytearray(path.read_bytes())
    for position in [*range(60), *range(60, len(data), 101), len(data) - 1]:
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)
        data[position] ^= 1 << (position % 8)
        with pytest.raises(DamagedCheckpointError):
            load_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.99])
def test_truncated_file_is_rejected(path: Path, share: float) -> None:
    save_checkpoint(path, make_checkpoint())
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    message = "truncated" if int(len(data) * share) >= 35 else "not a ptblm checkpoint|empty"
    with pytest.raises(DamagedCheckpointError, match=message):
        load_checkpoint(path)


def test_trailing_bytes_are_rejected(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(TensorFileError, match="1 extra bytes"):
        read_tensor_file(path)


def entry(dtype: Any, shape: Any, begin: Any, end: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": entry("F32", [10**12], 0, 4 * 10**12)}, "truncated: .* of 4,000,000,0"),
        ({"a": entry("F32", [10**12], 0, 172)}, "does not match its shape"),
        ({"a": entry("F32", [43], 0, 172), "b": entry("F32", [1], 0, 4)}, "not follow"),
        ({"a": entry("F32", [40], 0, 160), "b": entry("F32", [2], 164, 172)}, "not follow"),
        ({"a": entry("F32", [40], 12, 172)}, "not follow"),
        ({"a": entry("F32", [43], 172, 0)}, "does not match its shape"),
        ({"a": entry("F32", [-43], 0, -172)}, "are invalid"),
        ({"a": entry("F32", [43.0], 0, 172)}, "are invalid"),
        ({"a": entry("F32", [True], 0, 4)}, "are invalid"),
        ({"a": entry("F32", 43, 0, 172)}, "are invalid"),
        ({"a": entry("F32", [43], "0", 172)}, "are invalid"),
        ({"a": entry("F32", [0, 10**18], 0, 0)}, "extra bytes"),
        ({"a": entry("X9", [43], 0, 172)}, "is incomplete"),
        ({"a": entry([], [43], 0, 172)}, "is incomplete"),
        ({"a": 5}, "is incomplete"),
        ({"a": {"dtype": "F32", "shape": [43]}}, "is incomplete"),
        ({"a": {"dtype": "F32", "shape": [43], "data_offsets": [0]}}, "is incomplete"),
        ({"a": entry("BOOL", [172], 0, 172)}, "not booleans"),
    ],
    ids=range(18),
)
def test_wrong_tensor_sizes_are_rejected(path: Path, entries: Header, message: str) -> None:
    def change(header: Header) -> None:
        metadata = header["__metadata__"]
        header.clear()
        header.update({"__metadata__": metadata, **entries})

    rewrite(path, change, WEIGHT.view(torch.uint8).numpy().tobytes() + bytes(12))
    with pytest.raises(TensorFileError, match=message):
        read_tensor_file(path)


def test_impossible_empty_shape_is_rejected(path: Path) -> None:
    rewrite(path, lambda header: header.update(z=entry("F32", [0, 10**18, 10**18], 174, 174)))
    with pytest.raises(TensorFileError, match="is impossible"):
        read_tensor_file(path)


START = b'{"__metadata__":{"sha256":"' + b"0" * 64 + b'","ptblm":"{}"}'


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (START + b"}", None),
        (START + b',"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' * 2 + b"}", "twice"),
        (START + b',"__metadata__":{"ptblm":"{}"}}', "twice"),
        (START + b',"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (START + b',"a":' + b"9" * 10_000 + b"}", "10,000 digits"),
        (START + b',"a":"\xff"}', "cannot be parsed"),
        (START, "cannot be parsed"),
        (START[:92] + b"}}", "document is missing"),
        (START + b',"a":"' + b"x" * 10**7 + b'","b":[' + b"[]," * 650_000 + b"0]}", "much memory"),
        (START + b',"a":"' + b"x" * 10**7 + "ä".encode() + b'"}', "much memory"),
    ],
    ids=range(10),
)
def test_wrong_headers_are_rejected(path: Path, header: bytes, message: str | None) -> None:
    path.write_bytes(signed(header, b""))
    if message is None:
        assert read_tensor_file(path) == ({}, {})
        return
    with pytest.raises(TensorFileError, match=message):
        read_tensor_file(path)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not an object"),
        ("", "cannot be parsed"),
    ],
)
def test_wrong_documents_are_rejected(path: Path, document: str, message: str) -> None:
    rewrite(path, lambda header: header["__metadata__"].update(ptblm=document))
    with pytest.raises(DamagedCheckpointError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("declared", [2**63, 2**30, 101_000_000, 0, 5])
def test_declared_header_length_spends_no_memory(path: Path, declared: int) -> None:
    """A header of 1 GB that is there, as a hole in the file, and lengths that are not."""
    path.write_bytes(signed(START, b"", declared))
    os.truncate(path, 2**30 + 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TensorFileError, match="declared header size"):
        read_tensor_file(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_header_too_large_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_file, "MAX_HEADER_BYTES", 1000)
    with pytest.raises(TensorFileError, match="too large"):
        write_tensor_file(path, {"a": "b" * 1000}, {})
    assert "weight" in read_tensor_file(path)[1]


def test_document_that_could_not_be_read_is_not_written(path: Path) -> None:
    before = path.read_bytes()
    tokens = {"tokens": [f"w{n}" for n in range(800_000)], "counts": [1000] * 800_000}
    with pytest.raises(TensorFileError, match="too small for its vocabulary"):
        write_tensor_file(path, tokens, {"weight": WEIGHT})
    assert path.read_bytes() == before
    write_tensor_file(path, tokens, {"weight": torch.zeros(2**24)})
    assert read_tensor_file(path)[0] == tokens


def test_memory_stays_near_the_size_of_the_file(tmp_path: Path) -> None:
    """In a fresh process, since the peak of this one is another test's."""
    path = tmp_path / "large.safetensors"
    write_tensor_file(path, {}, {f"w{i}": torch.zeros(2**22) for i in range(8)})  # 128 MiB
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from ptblm.checkpoint.tensor_file import read_tensor_file, write_tensor_file\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "path = Path(sys.argv[1]); start = peak()\n"
        "document, tensors = read_tensor_file(path); read = peak()\n"
        "write_tensor_file(path, document, tensors); print(read - start, peak() - read)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], env=plain_environment(), capture_output=True, text=True
    )
    read, written = (int(word) / 2**10 for word in result.stdout.split())
    assert read < 1.2 * 128, result.stderr
    assert written < 0.2 * 128


# --- files of other kinds ---


class Payload:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("owned",)


@pytest.mark.usefixtures("in_directory")
def test_pickled_code_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    for pickled in (True, False):
        if pickled:
            path.write_bytes(pickle.dumps(Payload()))
        else:
            torch.save({"model": Payload()}, path)
        with pytest.raises(DamagedCheckpointError, match=r"written by torch\.save or pickle"):
            load_checkpoint(path)
    assert not Path("owned").exists()


def test_other_files_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(DamagedCheckpointError, match="no such checkpoint"):
        load_checkpoint(path)
    path.write_text("hello")
    with pytest.raises(DamagedCheckpointError, match="not a ptblm checkpoint"):
        load_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match="the file is empty"):
        load_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello", "world")
    with pytest.raises(DamagedCheckpointError, match="written by torch"):
        load_checkpoint(path)
    safetensors.torch.save_file({"weight": WEIGHT}, path)
    with pytest.raises(DamagedCheckpointError, match="another safetensors file"):
        load_checkpoint(path)


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """To open a named pipe would wait forever, and a device may never end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="not a regular file") as caught:
            load_checkpoint(path)
        assert not isinstance(caught.value, DamagedCheckpointError)


def test_unreadable_file_is_not_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied") as caught:
        load_checkpoint(path)
    assert not isinstance(caught.value, DamagedCheckpointError)


def test_too_little_memory_is_not_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(CheckpointError, match="not enough memory") as caught:
        load_checkpoint(path)
    assert not isinstance(caught.value, DamagedCheckpointError)
