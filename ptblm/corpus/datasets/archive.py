"""Finds files in untrusted tar archives."""

import lzma
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import IO, Any

from ptblm.errors import DataError

MAX_MEMBERS = 10_000
MAX_UNPACKED_SIZE = 2**32
_MAX_READ = 2**22


@contextmanager
def open_archive(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    """Opens a tar archive, with or without compression, and checks all of its members.

    Raises:
        DataError: if the file is not an archive, is damaged or too large, or contains a link, a
            device or a path outside the archive.
    """
    try:
        with _TarFile.open(fileobj=file) as archive:
            _check_members(archive)
            yield archive
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # from the operating system; errors of gzip and bz2 have no errno
        reason = str(error).splitlines()[0].rstrip(":") if str(error) else type(error).__name__
        raise DataError(f"not a tar archive, or damaged: {reason}") from None


def _check_members(archive: tarfile.TarFile) -> None:
    unpacked = 0
    for number, member in enumerate(archive, start=1):
        unpacked += max(0, member.size)
        path = PurePosixPath(member.name.replace("\\", "/"))
        if number > MAX_MEMBERS:
            raise DataError(f"unsafe archive: more than {MAX_MEMBERS:,} members")
        if unpacked > MAX_UNPACKED_SIZE:
            raise DataError(f"unsafe archive: unpacks to more than {MAX_UNPACKED_SIZE:,} bytes")
        if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
            raise DataError(f"unsafe archive: the path {member.name!r} is outside the archive")
        if not (member.isreg() or member.isdir()):
            raise DataError(f"unsafe archive: {member.name!r} is a link or a device")


class _TarFile(tarfile.TarFile):
    """A TarFile that bounds each read, because a tar header can declare any size."""

    def __init__(self, name: Any = None, mode: Any = "r", fileobj: Any = None, **options: Any):
        super().__init__(name, mode, _BoundedReader(fileobj), **options)


class _BoundedReader:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise DataError(f"unsafe archive: the header has {size:,} bytes")
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
