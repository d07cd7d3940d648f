"""Reads and writes safetensors files with a digest of their content.

A safetensors file consists of the length of its header (8 bytes, little endian), the header (JSON:
dtype, shape and byte range of every tensor by name, and string metadata), and the tensor data. The
header of a ptblm file starts with `{"__metadata__":{"sha256":"...`. The digest has a fixed offset
and is computed over the whole file with 64 zeros in its place.

Any safetensors library can read these files. ptblm does not use the library for two reasons. It
reads either through a memory map, where a failing disk or a truncated file kills the process
instead of raising OSError, or with an additional copy of every tensor. It writes only to a file
name and does not report a full disk as an OSError.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptblm.files import open_regular, replacing
from ptblm.json_files import JsonError, decoded_json, parse_json

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}

# Limit of the safetensors library.
MAX_HEADER_BYTES = 100_000_000
# Checkpoints have a few dozen tensors with short names and at most four dimensions.
MAX_TENSORS, MAX_NAME_LENGTH, MAX_DIMENSIONS = 10_000, 1000, 32
_ALIGNMENT = 8
HEADER_START = b'{"__metadata__":{"sha256":"'
_NO_DIGEST = "0" * 64
_DIGEST_END = len(HEADER_START) + len(_NO_DIGEST)
_CHUNK_BYTES = 2**20


class TensorFileError(ValueError):
    """The file is damaged or is not a ptblm file; the message describes the problem."""


class NotTensorFileError(TensorFileError):
    """The file does not start like a ptblm file."""


class ReadBackError(TensorFileError):
    """The bytes read back from the file differ from the written bytes."""


def write_tensor_file(
    path: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Replaces a file atomically after reading back and comparing the written bytes.

    Args:
        path: the file.
        document: JSON values to store in the metadata.
        tensors: tensors by name, on any device and with any strides. Tensors that share memory
            are written separately.

    Raises:
        OSError: if the file cannot be written. The old file is kept after any error.
        ReadBackError: if the bytes read back differ from the written bytes.
        TensorFileError: if a tensor cannot be stored, or the header is too large to be read.
    """
    contents = in_file_order(tensors)
    parts = [bytes_of(tensor) for tensor in contents.values()]
    text = json.dumps(document)
    header = header_of({"sha256": _NO_DIGEST, "ptblm": text}, contents)
    if len(header) > MAX_HEADER_BYTES:
        raise TensorFileError(f"the header would have {len(header):,} bytes, which is too large")
    try:  # what is written can also be read
        for content in (text, header):
            decoded_json(content, sum(map(len, parts)))
    except JsonError as error:
        raise TensorFileError(f"the model is too small for its vocabulary: {error}") from None
    length = len(header).to_bytes(8, "little")
    digest = hashlib.sha256(length + header)
    written = bytearray(length + header)
    pieces = [memoryview(written), *parts]
    with replacing(path, check=lambda temporary: _check_written(temporary, pieces)) as file:
        with ThreadPoolExecutor(1) as hashing:
            for part in parts:
                hashing.submit(digest.update, part)
            for piece in pieces:
                file.write(piece)
        written[8 + len(HEADER_START) : 8 + _DIGEST_END] = digest.hexdigest().encode()
        file.seek(0)
        file.write(written)


def read_tensor_file(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a file once, from start to end, and verifies it.

    The digest is computed over the memory of the returned tensors. Every declared size is compared
    with the file size before memory is allocated, and memory is at most three times the file size
    plus a constant.

    Returns:
        The document, and the tensors by name.

    Raises:
        OSError: if the file cannot be read.
        MemoryError: if the tensors do not fit into memory.
        TensorFileError: if the file is damaged.
        NotTensorFileError: if the file does not start like a ptblm file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = file.read(8)
        header_bytes = int.from_bytes(length, "little")
        start = file.read(_DIGEST_END)
        if start[: len(HEADER_START)] != HEADER_START:
            raise NotTensorFileError(_what_it_is(length + start))
        if header_bytes > MAX_HEADER_BYTES or header_bytes < _DIGEST_END:
            raise TensorFileError(f"damaged: the declared header size is {header_bytes:,} bytes")
        if header_bytes > size - 8:
            raise TensorFileError("truncated inside the header")
        header = bytearray(header_bytes)
        header[:_DIGEST_END] = start
        file.readinto(memoryview(header)[_DIGEST_END:])
        digest = hashlib.sha256(length + HEADER_START + _NO_DIGEST.encode())
        digest.update(memoryview(header)[_DIGEST_END:])
        tensor_bytes = size - 8 - header_bytes
        document, entries = _parsed_header(header, tensor_bytes)
        del header
        expected = 8 + header_bytes + (entries[-1][3] if entries else 0)
        if size < expected:
            raise TensorFileError(f"truncated: it has {size:,} of {expected:,} bytes")
        if size > expected:
            raise TensorFileError(f"damaged: it has {size - expected:,} extra bytes")
        tensors = {}
        with ThreadPoolExecutor(1) as hashing:
            for name, dtype, shape, _, nbytes in entries:
                content = _allocated(nbytes)
                for chunk in _chunks([bytes_of(content)]):
                    if file.readinto(chunk) != len(chunk):
                        raise TensorFileError("truncated while being read")
                    hashing.submit(digest.update, chunk)
                tensors[name] = _shaped(name, content, dtype, shape)
    if digest.hexdigest().encode() != start[len(HEADER_START) :]:
        raise TensorFileError("damaged: the digest does not match")
    return _parsed(document, tensor_bytes), tensors


def in_file_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a file as contiguous CPU tensors, in the order of the file.

    Raises:
        TensorFileError: if a tensor cannot be stored.
    """
    # Tensors with larger items come first, so that every tensor is aligned to its item size.
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    return {name: _dense(name, tensors[name]) for name in names}


def _dense(name: str, tensor: Tensor) -> Tensor:
    """Returns a contiguous CPU tensor; copies only if necessary."""
    if tensor.layout != torch.strided or tensor.dtype not in _DTYPE_NAMES or tensor.is_meta:
        kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
        raise TensorFileError(f"{name} cannot be stored in a safetensors file ({kind})")
    return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()


def bytes_of(tensor: Tensor) -> memoryview:
    """Returns the memory of a contiguous CPU tensor."""
    array: Any = tensor.reshape(-1).view(torch.uint8).numpy()
    return memoryview(array)


def header_of(metadata: Mapping[str, str], contents: Mapping[str, Tensor]) -> bytes:
    """Returns the header of a file with these tensors, padded to align them."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in contents.items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {
            "dtype": _DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % _ALIGNMENT)


def _check_written(path: Path, pieces: Iterable[memoryview]) -> None:
    with path.open("rb", buffering=0) as file:
        for chunk in _chunks(pieces):
            # Comparing two memoryviews takes 100 times as long as comparing with a bytearray.
            found = bytearray(len(chunk))
            if file.readinto(found) != len(chunk) or found != chunk:
                raise ReadBackError("the bytes read back differ from those written")
        if file.read(1):
            raise ReadBackError("more bytes were read back than written")


def _chunks(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    for piece in pieces:
        for start in range(0, len(piece), _CHUNK_BYTES):
            yield piece[start : start + _CHUNK_BYTES]


def _what_it_is(start: bytes) -> str:
    """Describes a file that is not a ptblm file, based on its first bytes."""
    if not start:
        return "the file is empty"
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return "a file written by torch.save or pickle, which only `ptblm import` reads"
    if start[8:9] == b"{":
        return "not a ptblm checkpoint but another safetensors file, or damaged"
    return "not a ptblm checkpoint"


_Entry = tuple[str, torch.dtype, list[int], int, int]  # name, dtype, shape, end, bytes


def _parsed(text: str | bytearray, tensor_bytes: int) -> dict[str, Any]:
    try:
        return parse_json(text, rest=tensor_bytes)
    except JsonError as error:
        raise TensorFileError(f"damaged: {error}") from None


def _parsed_header(header: bytearray, tensor_bytes: int) -> tuple[str, list[_Entry]]:
    """Returns the document and the tensor entries; checks that there are no gaps."""
    content = _parsed(header, tensor_bytes)
    metadata = content.pop("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("ptblm"), str):
        raise TensorFileError("damaged: the document is missing")
    if len(content) > MAX_TENSORS:
        raise TensorFileError(f"damaged: it declares {len(content):,} tensors")
    entries: list[_Entry] = []
    for name, entry in content.items():
        try:
            dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
            begin, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise TensorFileError(
                f"damaged: the entry of tensor {name!r:.80} is incomplete"
            ) from None
        if len(name) > MAX_NAME_LENGTH:
            raise TensorFileError(f"damaged: a tensor name has {len(name):,} characters")
        if (
            not isinstance(shape, list)
            or len(shape) > MAX_DIMENSIONS
            or any(type(number) is not int or number < 0 for number in (begin, end, *shape))
        ):
            raise TensorFileError(f"damaged: the sizes of tensor {name!r:.80} are invalid")
        if math.prod(shape) * dtype.itemsize != end - begin:
            raise TensorFileError(
                f"damaged: the size of tensor {name!r:.80} does not match its shape"
            )
        entries.append((name, dtype, shape, end, end - begin))
    entries.sort(key=lambda entry: (entry[3] - entry[4], entry[3]))
    filled = 0
    for name, _, _, end, nbytes in entries:
        if end - nbytes != filled:
            raise TensorFileError(
                f"damaged: tensor {name!r:.80} does not follow the previous tensor"
            )
        filled = end
    return metadata["ptblm"], entries


def _allocated(nbytes: int) -> Tensor:
    try:
        return torch.empty(nbytes, dtype=torch.uint8)
    except RuntimeError as error:  # raised by torch if there is not enough memory
        raise MemoryError(str(error)) from None


def _shaped(name: str, content: Tensor, dtype: torch.dtype, shape: list[int]) -> Tensor:
    if dtype == torch.bool and content.numel() and int(content.max()) > 1:
        raise TensorFileError(f"damaged: tensor {name!r:.80} contains values that are not booleans")
    try:
        return content.view(dtype).view(shape)
    except (RuntimeError, TypeError, OverflowError):  # an empty tensor with a huge dimension
        raise TensorFileError(f"damaged: the shape of tensor {name!r:.80} is impossible") from None
