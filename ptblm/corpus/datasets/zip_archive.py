"""Reads untrusted zip archives, member by member, with the standard library's `zipfile`.

`zipfile` reads the list of the files at once, so the size of the list is checked first. The content
of a file cannot be longer than the size that the list declares.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO

from ptblm.corpus.datasets.archive import (
    MAX_HEADERS,
    MAX_SIZE,
    Member,
    check_inside,
    unsafe_archive,
)
from ptblm.errors import DataError

_MAX_LIST_SIZE = 2**22  # bytes of the list of the files
_MAX_COMMENT_SIZE = 2**16
_END = struct.Struct("<4s4H2LH")  # the record at the end of an archive
_END_SIGNATURE, _END_64_SIGNATURE = b"PK\5\6", b"PK\6\7"
_PIECE_SIZE = 2**18
_ENCRYPTED = 1
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def zip_members(file: IO[bytes], max_size: int = MAX_SIZE) -> Iterator[Member]:
    """Yields the files of a zip archive.

    Args:
        file: the archive.
        max_size: upper bound of the size of the unpacked archive in bytes.

    Raises:
        DataError: if the archive is damaged, encrypted or too large, or contains a link, a device
            or a path outside the archive.
        OSError: if the file cannot be read.
    """
    _check_list_size(file)
    with _damaged_errors(), zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if len(infos) > MAX_HEADERS:
            raise unsafe_archive(f"more than {MAX_HEADERS:,} files")
        if sum(info.file_size for info in infos) > max_size:
            raise unsafe_archive(f"unpacks to more than {max_size:,} bytes")
        for info in infos:
            path = PurePosixPath(info.filename)
            shown = check_inside(path)
            mode = info.external_attr >> 16
            if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise unsafe_archive(f"{shown} is a link or a device")
            if info.flag_bits & _ENCRYPTED or info.compress_type not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                raise unsafe_archive(f"{shown} is encrypted or compressed in an unusual way")
            if not info.is_dir():
                yield Member(path, info.file_size, _content(archive, info))


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with _damaged_errors(), archive.open(info) as content:
        while piece := content.read(_PIECE_SIZE):
            yield piece


def _check_list_size(file: IO[bytes]) -> None:
    """Raises DataError if the list of the files is missing or takes too much memory."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _END.size - _MAX_COMMENT_SIZE))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise _damaged_error("it ended early")
    *_, list_size, _, _ = _END.unpack_from(tail, at)
    # A second record, for archives of more than 4 GB, would replace this one.
    if list_size > _MAX_LIST_SIZE or _END_64_SIGNATURE in tail[max(0, at - 20) : at]:
        raise unsafe_archive(f"a list of more than {_MAX_LIST_SIZE:,} bytes")


@contextmanager
def _damaged_errors() -> Iterator[None]:
    """Re-raises the errors of `zipfile` as DataError."""
    try:
        yield
    except _DAMAGED as error:
        raise _damaged_error(str(error)[:80] or type(error).__name__) from None


def _damaged_error(reason: str) -> DataError:
    return DataError(
        f"not a zip archive, or damaged: {reason if reason.isprintable() else repr(reason)}",
        hint="download the archive again",
    )
