"""Takes known files out of a tar archive, and refuses archives that mean harm."""

import bz2
import gzip
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, cast

from ptblm.errors import DataError

# The public archive unpacks to about 200 MB; a bomb, to as much as it likes.
LARGEST_UNPACKED = 2**30
MOST_MEMBERS = 10_000
LARGEST_PIECE = 2**22


@contextmanager
def open_archive(path: Path) -> Iterator[tarfile.TarFile]:
    """Opens a tar archive, compressed or not; its damages are raised as DataError.

    Raises:
        OSError: if the system can't read it, or write what the caller makes of it.
    """
    try:
        with (
            path.open("rb") as file,
            _decompressed(file) as plain,
            tarfile.open(fileobj=cast(IO[bytes], _Bounded(plain)), mode="r:") as archive,
        ):
            yield archive
    except (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # gzip's and bz2's own have no number
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"not a tar archive, or damaged: {reason}", where=str(path)) from None


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    """The file's content, whatever it is compressed by."""
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if start.startswith(b"BZh"):
        return cast(IO[bytes], bz2.BZ2File(file))
    if start.startswith(b"\xfd7zXZ\x00"):
        return cast(IO[bytes], lzma.LZMAFile(file))
    return file


class _Bounded:
    """A file of which no one piece is large: tarfile reads whole headers of any stated size."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_PIECE:
            raise DataError(f"refused: a header of {size:,} bytes")
        return self._file.read(size)

    def seek(self, position: int) -> int:
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()


def find_members(archive: tarfile.TarFile, sizes: Mapping[str, int]) -> dict[str, tarfile.TarInfo]:
    """The members that are the wanted files, by name.

    Args:
        archive: opened; all of it is looked at before anything is taken.
        sizes: bytes of each wanted file.

    Raises:
        DataError: if any member, wanted or not, would land outside of where it is unpacked, is
            no plain file or folder, or if the archive is too large unpacked.
    """
    found: dict[str, tarfile.TarInfo] = {}
    unpacked = 0
    for number, member in enumerate(archive):
        if number >= MOST_MEMBERS:
            raise DataError(f"refused: the archive has more than {MOST_MEMBERS:,} members")
        unpacked += max(0, member.size)
        if unpacked > LARGEST_UNPACKED:
            raise DataError(f"refused: unpacks to more than {LARGEST_UNPACKED:,} bytes")
        _refuse_hostile(member)
        name = PurePosixPath(member.name).name
        # The size tells the file from others of its name, in other folders of the archive.
        if member.isreg() and sizes.get(name) == member.size:
            found.setdefault(name, member)
    return found


def open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    """A member's bytes."""
    file = archive.extractfile(member)
    if file is None:
        raise DataError(f"refused: {member.name} is not a plain file")
    return file


def _refuse_hostile(member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]):
        raise DataError(f"refused: the archive's member {member.name!r} points outside of it")
    if not (member.isreg() or member.isdir()):
        raise DataError(f"refused: the archive's member {member.name!r} is a link or a device")
