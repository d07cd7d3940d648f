"""Where the storages of a pickled model are in its file, and how they are read."""

import io
import zlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ptblm.checkpoint.pickle_records import PickleError, StorageRecord

MAX_PICKLE_BYTES = 32_000_000
_CHUNK_BYTES = 2**20


class Region(NamedTuple):
    """A range of bytes in a file.

    Attributes:
        start: offset of the first byte.
        nbytes: number of bytes, which the file has.
        crc: CRC-32 of the bytes; None if the file does not contain it.
    """

    start: int
    nbytes: int
    crc: int | None = None

    def read(self, file: io.FileIO) -> bytearray:
        """Returns the bytes.

        Raises:
            PickleError: if the file is truncated or the CRC-32 does not match.
            MemoryError: if the bytes do not fit into memory.
        """
        content = bytearray(self.nbytes)
        view, crc = memoryview(content), 0
        file.seek(self.start)
        for start in range(0, self.nbytes, _CHUNK_BYTES):
            chunk = view[start : start + _CHUNK_BYTES]
            if file.readinto(chunk) != len(chunk):
                raise PickleError("truncated")
            crc = zlib.crc32(chunk, crc)
        if self.crc not in (None, crc):
            raise PickleError("damaged: a checksum does not match")
        return content


# Returns where a storage is; None if the file does not contain it.
Regions = Callable[[StorageRecord], Region | None]


def read_region(file: io.FileIO, regions: Regions, record: StorageRecord) -> Tensor:
    """Returns the elements of a storage, [record.size].

    Raises:
        PickleError: if the storage is missing or has another size.
        MemoryError: if it does not fit into memory.
    """
    region = regions(record)
    if region is None or region.nbytes != record.nbytes:
        raise PickleError("damaged: a storage is missing or has another size")
    if not record.size:
        return torch.empty(0, dtype=record.dtype)
    return torch.frombuffer(region.read(file), dtype=record.dtype)
