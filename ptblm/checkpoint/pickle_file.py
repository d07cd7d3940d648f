"""Reads files that torch.save wrote, in both formats, without running anything in them.

Since version 1.6, torch writes a zip archive: `NAME/data.pkl` is the pickle, and `NAME/data/KEY`
are the storages, which are not compressed. For the older format, see `legacy_pickle_file`.
"""

import contextlib
import hashlib
import io
import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptblm.checkpoint.legacy_pickle_file import read_legacy
from ptblm.checkpoint.pickle_reader import read_pickle
from ptblm.checkpoint.pickle_records import PickleError, StorageRecord, TensorRecord, storage
from ptblm.checkpoint.pickled_module import PickledModule, find_module
from ptblm.checkpoint.storages import MAX_PICKLE_BYTES, Region, Regions, read_region
from ptblm.checkpoint.tensor_file import HEADER_START
from ptblm.errors import CheckpointError, PtblmError
from ptblm.files import open_regular, os_errors
from ptblm.paths import shell_join

_MAX_DIRECTORY_BYTES = 4_000_000  # of the list of files in a zip archive
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, lengths of the name and the extra field
_HINT = "pass a file written by torch.save, such as model.pt"
# First bytes of other files, and what they are.
_OTHER_FILES = {
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"\x1f\x8b": "a gzip file; unpack it first",
    b"BZh": "a bzip2 file; unpack it first",
    b"\xfd7zXZ": "an xz file; unpack it first",
    b"\x93NUMPY": "a NumPy array",
}
_TENSORFLOW = (".index", ".meta", ".pb", ".ckpt", ".pbtxt")


@dataclass(frozen=True)
class PickleFile:
    """A file that torch.save wrote.

    Attributes:
        path: the file.
        module: the model in it.
        sha256: SHA-256 of the file, in hexadecimal.
        size: size of the file in bytes.
    """

    path: Path
    module: PickledModule
    sha256: str
    size: int
    _file: io.FileIO
    _regions: Regions

    def tensor(self, record: TensorRecord) -> Tensor:
        """Reads a tensor. The storage is read in full.

        Raises:
            CheckpointError: if the file is damaged or cannot be read.
            MemoryError: if the storage does not fit into memory.
        """
        with _errors(self.path):
            values = read_region(self._file, self._regions, record.storage)
            return torch.as_strided(values, record.shape, record.strides, record.offset)


@contextlib.contextmanager
def open_pickle_file(path: Path) -> Iterator[PickleFile]:
    """Opens a file that torch.save wrote, and finds the model in it.

    The memory is bounded by the size of the file plus a constant.

    Raises:
        CheckpointError: if the file is missing, damaged, not such a file, contains no model, or
            names anything that the model of a supported kind does not need. Nothing of it is run.
    """
    with os_errors(CheckpointError, where=path, hint=_HINT):
        if path.is_dir():
            raise _directory_error(path)
        if not path.exists():
            raise CheckpointError("no such file", where=os.path.abspath(path), hint=_HINT)
        file = open_regular(path)
    with file:
        with _errors(path):
            size = os.fstat(file.fileno()).st_size
            start = file.read(64)
            if start[:2] == b"PK":
                content, regions = _read_zip(file)
            elif start[:1] == b"\x80":
                content, regions = read_legacy(file, size)
            else:
                raise _other_file_error(path, start)
            file.seek(0)
            module = find_module(content)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        yield PickleFile(path, module, sha256, size, file, regions)


@contextlib.contextmanager
def _errors(path: Path) -> Iterator[None]:
    with os_errors(CheckpointError, where=path):
        try:
            yield
        except PtblmError:
            raise
        except PickleError as error:
            raise CheckpointError(str(error), where=str(path), hint=error.hint) from None


class _BoundedReads(io.BufferedReader):
    """Limits each read, because `zipfile` reads the list of files at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile("the list of files is too long")
        return super().read(size)


def _read_zip(file: io.FileIO) -> tuple[Any, Regions]:
    """Returns the pickled value, and where the storages are.

    Raises:
        PickleError: if the archive is damaged or is not one of torch.
    """
    buffered = _BoundedReads(file)
    try:
        with zipfile.ZipFile(buffered) as archive:
            entries = {entry.filename: entry for entry in archive.infolist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OverflowError):
        raise PickleError("damaged: the zip archive cannot be read") from None
    finally:
        buffered.detach()
    names = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(names) != 1:
        raise PickleError("a zip archive that torch.save did not write", hint=_HINT)
    prefix = names[0].removesuffix("data.pkl")
    if any(name.startswith(f"{prefix}code/") for name in entries):
        raise PickleError("a TorchScript program, not a pickled model", hint=_HINT)
    regions = {name: _region(file, entry) for name, entry in entries.items()}
    if sum(region.nbytes for region in regions.values()) > os.fstat(file.fileno()).st_size:
        raise PickleError("damaged: files in the zip archive overlap")
    order = regions.get(f"{prefix}byteorder")
    if order is not None and order.nbytes < 100 and order.read(file) != b"little":
        raise PickleError("the file was written on a big-endian machine")
    pickle = regions[names[0]]
    if pickle.nbytes > MAX_PICKLE_BYTES:
        raise PickleError(f"the pickle has more than {MAX_PICKLE_BYTES:,} bytes")

    def find(record: StorageRecord) -> Region | None:
        return regions.get(f"{prefix}data/{record.key}")

    return read_pickle(io.BytesIO(pickle.read(file)), storage), find


def _region(file: io.FileIO, entry: zipfile.ZipInfo) -> Region:
    """Returns where the content of an entry is.

    Raises:
        PickleError: if it is compressed, encrypted or not where the list of files says.
    """
    size = os.fstat(file.fileno()).st_size
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise PickleError("damaged: a file in the zip archive is compressed or encrypted")
    if not 0 <= entry.header_offset <= size - _LOCAL_HEADER.size:
        raise PickleError("damaged: a file in the zip archive is missing")
    file.seek(entry.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = entry.header_offset + _LOCAL_HEADER.size + name + extra
    if signature != b"PK\x03\x04" or start + entry.file_size > size:
        raise PickleError("damaged: a file in the zip archive is missing or truncated")
    return Region(start, entry.file_size, entry.CRC)


def _directory_error(path: Path) -> CheckpointError:
    if (path / "checkpoints").is_dir():
        return _own_checkpoint_error(path, "a run directory of ptblm")
    if (path / "saved_model.pb").is_file():
        return CheckpointError(
            "a TensorFlow model, not one of PyTorch", where=str(path), hint=_HINT
        )
    return CheckpointError("a directory, not a file", where=str(path), hint=_HINT)


def _own_checkpoint_error(path: Path, what: str) -> CheckpointError:
    command = shell_join(["ptblm", "eval", str(path)])
    return CheckpointError(
        f"{what}, which needs no import", where=str(path), hint=f"use it as it is: {command}"
    )


def _other_file_error(path: Path, start: bytes) -> CheckpointError:
    """Returns the error for a file that torch.save did not write."""
    if start[8 : 8 + len(HEADER_START)] == HEADER_START:
        return _own_checkpoint_error(path, "a checkpoint of ptblm")
    what = next((what for first, what in _OTHER_FILES.items() if start.startswith(first)), None)
    if what is None and start[8:9] == b"{":
        what = "a safetensors file that ptblm did not write"
    if what is None and (path.suffix in _TENSORFLOW or ".data-" in path.name):
        what = "a TensorFlow file"
    what = what or ("the file is empty" if not start else "not a file that torch.save wrote")
    return CheckpointError(what, where=str(path), hint=_HINT)
