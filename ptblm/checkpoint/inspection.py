"""Looks through a checkpoint before torch loads it: what it names, and what sizes it declares.

`torch.load(weights_only=True)` runs no code of a stranger's, but it believes declared sizes, and
knows more classes than a checkpoint needs. This walks the same pickle with stand-ins for the few
names that a checkpoint may use, allocates nothing for a tensor, and compares every declared size
with the bytes that are there.
"""

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BYTES_PER_ITEM = {
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "LongStorage": 8,
    "IntStorage": 4,
    "BoolStorage": 1,
}


# What torch.save writes for tensors, numbers, strings, lists and dicts, in pickle's protocol 2.
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    *("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("EMPTY_DICT", "SETITEM", "SETITEMS", "EMPTY_LIST", "APPEND", "APPENDS"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    "BINUNICODE",
}


class SuspectError(ValueError):
    """The file is damaged, or is not what a checkpoint looks like; the message says how."""


def inspect_checkpoint(path: Path) -> None:
    """Checks every byte against its checksum, and every declared size against the file.

    Raises:
        SuspectError: if anything is amiss.
        OSError: if the file can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _inspect(archive)
    except (OSError, SuspectError):
        raise
    except Exception:  # a damaged directory fails in zipfile in many ways
        raise SuspectError("not a checkpoint file, or cut short") from None


def _inspect(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if len(set(names)) != len(names):
        raise SuspectError("two parts of it have one name")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise SuspectError(f"{entry.filename} is compressed, which checkpoints are not")
    # torch itself does not look at the checksums.
    damaged = archive.testzip()
    if damaged is not None:
        raise SuspectError(f"damaged: {damaged} fails its checksum")
    pickles = [name for name in names if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise SuspectError("not a checkpoint: it has no data.pkl")
    folder = pickles[0].removesuffix("data.pkl")
    sizes = {
        entry.filename.removeprefix(folder + "data/"): entry.file_size
        for entry in entries
        if entry.filename.startswith(folder + "data/")
    }
    content = archive.read(pickles[0])
    try:
        for opcode, _, _ in pickletools.genops(content):
            if opcode.name not in _OPCODES:
                raise SuspectError(f"not safe to load: it says {opcode.name}")
        _refuse_repetition(_Inspector(io.BytesIO(content), sizes).load(), len(content))
    except SuspectError:
        raise
    except Exception as error:  # a pickle can be wrong in any way
        raise SuspectError(f"its contents can't be read: {type(error).__name__}") from None


def _refuse_repetition(value: Any, budget: int) -> None:
    """Refuses a structure that is larger than its bytes: one that shares parts over and over."""
    waiting = [value]
    while waiting:
        budget -= 1
        if budget < 0:
            raise SuspectError("it unfolds to more than its bytes")
        inner = waiting.pop()
        if isinstance(inner, dict):
            waiting.extend(inner.values())
        elif isinstance(inner, list | tuple):
            waiting.extend(inner)


# The version in Python: the one in C allocates what a pickle's memo index says, however large.
class _Inspector(pickle._Unpickler):
    """Reads a torch pickle without making anything of it."""

    def __init__(self, file: io.BytesIO, sizes: Mapping[str, int]) -> None:
        super().__init__(file)
        self._sizes = sizes

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _inspect_tensor
        if module == "torch" and name in _BYTES_PER_ITEM:
            return _BYTES_PER_ITEM[name]
        raise SuspectError(f"not safe to load: it names {module}.{name}")

    def persistent_load(self, pid: Any) -> int:
        """A storage; stands for it: how many items it has."""
        kind, bytes_per_item, key, _, items = pid
        if kind != "storage" or type(items) is not int or items < 0:
            raise SuspectError("a storage is not described as one")
        if self._sizes.get(key) != items * bytes_per_item:
            raise SuspectError(f"tensor {key!s:.20} declares another size than it has")
        return items


def _inspect_tensor(
    items: int, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> None:
    numbers = (items, offset, *size, *stride)
    if any(type(number) is not int or number < 0 for number in numbers):
        raise SuspectError("a tensor's sizes are not numbers")
    if len(size) != len(stride):
        raise SuspectError("a tensor's sizes and strides do not match")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count and (last >= items or count > items):
        raise SuspectError("a tensor declares more than its storage has")
