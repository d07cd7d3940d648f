"""Reads the stream format of torch.save before version 1.6.

The file contains five pickles: a magic number, the version of the format, the sizes of types, the
value, and the keys of the storages. The storages follow in the order of the keys. Each is the
number of its elements (8 bytes, little endian) and the elements.
"""

import io
from typing import Any

from ptblm.checkpoint.pickle_reader import read_pickle
from ptblm.checkpoint.pickle_records import PickleError, StorageRecord, storage
from ptblm.checkpoint.storages import MAX_PICKLE_BYTES, Region, Regions

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_COUNT_BYTES = 8


def read_legacy(file: io.FileIO, size: int) -> tuple[Any, Regions]:
    """Returns the pickled value, and where the storages are.

    Args:
        file: the file.
        size: its size in bytes.

    Raises:
        PickleError: if the file is damaged or is another pickle.
    """
    file.seek(0)
    stream = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    storages: dict[str, StorageRecord] = {}

    def persistent_id(identifier: Any) -> Any:
        record = storage(identifier)
        if isinstance(record, StorageRecord):
            before = storages.setdefault(record.key, record)
            if (before.dtype, before.size) != (record.dtype, record.size):
                raise PickleError("damaged: a storage has two sizes")
        return record

    if read_pickle(stream, storage) != _MAGIC:
        raise PickleError(
            "a pickle that torch.save did not write",
            hint="pass a file written by torch.save, such as model.pt",
        )
    if read_pickle(stream, storage) != _VERSION:
        raise PickleError("an unknown version of the format of torch.save")
    machine = read_pickle(stream, storage)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleError("the file was written on a big-endian machine")
    content = read_pickle(stream, persistent_id)
    keys = read_pickle(stream, storage)
    regions = _regions(file, stream.tell(), size, keys, storages)
    return content, lambda record: regions.get(record.key)


def _regions(
    file: io.FileIO, offset: int, size: int, keys: Any, storages: dict[str, StorageRecord]
) -> dict[str, Region]:
    """Returns where the storages are, by their keys.

    Raises:
        PickleError: if a storage does not have its size, or is not in the file.
    """
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("damaged: the keys of the storages are missing")
    regions: dict[str, Region] = {}
    for key in keys:
        record = storages.get(key)
        file.seek(offset)
        count = int.from_bytes(file.read(_COUNT_BYTES), "little")
        if record is None or count != record.size:
            raise PickleError("damaged: a storage does not have its size")
        offset += _COUNT_BYTES
        if offset + record.nbytes > size:
            raise PickleError("truncated")
        regions[key] = Region(offset, record.nbytes)
        offset += record.nbytes
    return regions
