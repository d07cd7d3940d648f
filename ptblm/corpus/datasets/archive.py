"""Finds files in untrusted tar and zip archives."""

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from ptblm.errors import DataError

MAX_MEMBERS = 10_000
MAX_UNPACKED_SIZE = 2**32
_MAX_READ = 2**22


class Member(NamedTuple):
    """A member of an archive; `open` is None for a directory."""

    path: str
    size: int
    open: Callable[[], IO[bytes] | None] | None


@contextmanager
def open_archive(file: IO[bytes]) -> Iterator[list[Member]]:
    """Opens an archive and checks all members before reading any of them.

    Raises:
        DataError: if the file is not an archive, is damaged or too large, or contains a link, a
            device or a path outside the archive.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                yield _checked(_zip_members(archive))
        else:
            file.seek(0)
            with _TarFile.open(fileobj=file) as archive:
                yield _checked(_tar_members(archive))
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError,
            OSError) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise  # from the operating system: errors of gzip and bz2 have no errno
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"not a tar or zip archive, or damaged: {reason}") from None


def _tar_members(archive: tarfile.TarFile) -> Iterator[Member]:
    for info in archive:
        if not (info.isreg() or info.isdir()):
            raise DataError(f"unsafe archive: {info.name!r} is a link or a device")
        reader = (lambda info=info: archive.extractfile(info)) if info.isreg() else None
        yield Member(info.name, info.size, reader)


def _zip_members(archive: zipfile.ZipFile) -> Iterator[Member]:
    for info in archive.infolist():
        reader = None if info.is_dir() else (lambda info=info: archive.open(info))
        yield Member(info.filename, info.file_size, reader)


def _checked(members: Iterator[Member]) -> list[Member]:
    """Returns all members, or raises DataError if there are too many or one is unsafe."""
    found: list[Member] = []
    unpacked = 0
    for member in members:
        found.append(member)
        unpacked += max(0, member.size)
        path = PurePosixPath(member.path.replace("\\", "/"))
        if len(found) > MAX_MEMBERS:
            raise DataError(f"unsafe archive: more than {MAX_MEMBERS:,} members")
        if unpacked > MAX_UNPACKED_SIZE:
            raise DataError(f"unsafe archive: unpacks to more than {MAX_UNPACKED_SIZE:,} bytes")
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise DataError(f"unsafe archive: the path {member.path!r} leaves it")
    return found


class _TarFile(tarfile.TarFile):
    """A TarFile that bounds each read, since a tar header can declare any size."""

    def __init__(self, name: Any = None, mode: Any = "r", fileobj: Any = None, **options: Any):
        super().__init__(name, mode, _BoundedReader(fileobj), **options)


class _BoundedReader:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise DataError(f"unsafe archive: a header of {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
