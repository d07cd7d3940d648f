"""Reads untrusted tar archives, member by member.

The standard library's `tarfile` follows headers recursively, seeks wherever a header tells it to
and keeps what headers declare, and in many supported versions of Python some headers make it hang
(CVE-2024-6232, CVE-2025-8194). This reader makes one pass and bounds everything that it reads.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO, NamedTuple

from ptblm.corpus.containers import SIGNATURE_SIZE, container_of, is_compressed_text, unpacked
from ptblm.errors import DataError

MAX_HEADERS = 10_000
MAX_EXTENSIONS = 16  # pax and long-name headers of one file
MAX_NAME_SIZE = 4096
MAX_EXTENSION_SIZE = 2**22  # bytes of all pax and long-name headers
MAX_SIZE = 2**29  # bytes of the unpacked archive
_MAX_RATIO = 50  # of a compressed archive, see `unpacked`
_MAX_DIGITS = 20
_PIECE_SIZE = 2**18
_BLOCK_SIZE = 512

_REGULAR, _DIRECTORY = (b"0", b"\0", b"7"), b"5"
_LONG_NAME, _LONG_LINK, _PAX, _PAX_OF_ARCHIVE = b"L", b"K", (b"x", b"X"), b"g"


class _Header(NamedTuple):
    name: bytes
    size: int
    kind: bytes


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
        path: its path in the archive.
        size: its size in bytes, as the archive declares it.
        content: yields the bytes; it can be read until the next member is requested.
    """

    path: PurePosixPath
    size: int
    content: Iterator[bytes | memoryview]


def tar_members(file: IO[bytes], max_size: int = MAX_SIZE) -> Iterator[Member]:
    """Yields the files of a tar archive, which may be compressed.

    Args:
        file: the archive, at its start.
        max_size: upper bound of the size of the unpacked archive in bytes.

    Raises:
        DataError: if the file is not an archive, is damaged or too large, or contains a link, a
            device or a path outside the archive.
        OSError: if the file cannot be read.
    """
    stream = _Stream(_tar_pieces(file), max_size)
    for member in _members(stream):
        content = stream.file_content(member.size)
        if member.kind != _DIRECTORY:
            yield Member(_path(member.name), member.size, content)
        for _ in content:  # what the caller did not read
            pass


def _members(stream: "_Stream") -> Iterator[_Header]:
    """Yields the header of each file; the caller reads or skips the content that follows it."""
    extended: dict[bytes, bytes] = {}  # fields that replace those of the next header
    total = in_a_row = 0
    for number in range(MAX_HEADERS):
        block = stream.read(_BLOCK_SIZE, may_end=number > 0)
        if not block.strip(b"\0"):
            return
        header = _parse_header(block)
        if header.kind not in (_LONG_NAME, _LONG_LINK, _PAX_OF_ARCHIVE, *_PAX):
            yield _checked(header, extended)
            extended, in_a_row = {}, 0
            continue
        total, in_a_row = total + header.size, in_a_row + 1
        if in_a_row > MAX_EXTENSIONS:
            raise _damaged(f"more than {MAX_EXTENSIONS} headers of one file")
        if total > MAX_EXTENSION_SIZE:
            raise unsafe_archive(f"headers of {total:,} bytes")
        content = stream.read_file(header.size)
        if header.kind == _LONG_NAME:
            extended[b"path"] = content.split(b"\0")[0]
        elif header.kind in _PAX:
            extended |= _pax_fields(content)
    raise unsafe_archive(f"more than {MAX_HEADERS:,} headers")


def _tar_pieces(file: IO[bytes]) -> Iterator[bytes]:
    kind = container_of(file.read(SIGNATURE_SIZE))
    file.seek(0)
    if kind is not None and is_compressed_text(kind):
        return unpacked(file, kind, "", _MAX_RATIO)
    if kind != "tar":
        prefix = "" if kind is None else f"a {kind} file, "
        raise DataError(
            f"{prefix}not a tar archive", hint="pass a tar archive, or a directory of the files"
        )
    return iter(lambda: file.read(_PIECE_SIZE), b"")


class _Stream:
    """Reads exact numbers of bytes from an iterator over pieces."""

    def __init__(self, pieces: Iterator[bytes], max_size: int) -> None:
        self._pieces = pieces
        self._max_size = max_size
        self._rest = memoryview(b"")
        self._total = 0

    def read(self, size: int, *, may_end: bool = False) -> bytes:
        """Returns `size` bytes, or none at the end of the archive if it `may_end` here."""
        return b"".join(self._read(size, may_end=may_end))

    def read_file(self, size: int) -> bytes:
        """Returns the content of a file, whose size is padded to whole blocks."""
        return self.read(_padded(size))[:size]

    def file_content(self, size: int) -> Iterator[memoryview]:
        """Yields the content of a file, and reads the padding after it."""
        for piece in self._read(_padded(size)):
            if size:
                yield piece[:size]
            size = max(0, size - len(piece))

    def _read(self, size: int, *, may_end: bool = False) -> Iterator[memoryview]:
        self._total += size
        if self._total > self._max_size:
            raise unsafe_archive(f"unpacks to more than {self._max_size:,} bytes")
        while size:
            self._rest = self._rest or memoryview(next(self._pieces, b""))
            if not self._rest and not may_end:
                raise _damaged("it ended early")
            if not self._rest:
                return
            piece, self._rest = self._rest[:size], self._rest[size:]
            size, may_end = size - len(piece), False
            yield piece


def _padded(size: int) -> int:
    return -(-size // _BLOCK_SIZE) * _BLOCK_SIZE


def _parse_header(block: bytes) -> _Header:
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) != checksum:
        raise _damaged("the checksum of a header is wrong")
    name, prefix = (block[start:end].split(b"\0")[0] for start, end in ((0, 100), (345, 500)))
    if prefix and block[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    kind = block[156:157]
    is_directory = kind in _REGULAR and name.endswith(b"/")  # in old archives
    return _Header(name, _number(block[124:136]), _DIRECTORY if is_directory else kind)


def _number(field: bytes, base: int = 8) -> int:
    """Returns the number in a field: digits, or the bytes of a large number after 0x80."""
    if field[:1] == b"\x80":
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip(b" ")
    if not (digits.isdigit() and len(digits) <= _MAX_DIGITS) and digits:
        raise _damaged("a number in a header is invalid")
    try:
        return int(digits or b"0", base)
    except ValueError:  # the digit 8 or 9
        raise _damaged("a number in a header is invalid") from None


def _pax_fields(content: bytes) -> dict[bytes, bytes]:
    """Returns the fields of a pax header, whose records are `LENGTH KEY=VALUE` and a newline."""
    fields: dict[bytes, bytes] = {}
    start = 0
    while start < len(content):
        digits = content[start : start + _MAX_DIGITS].split(b" ")[0]
        length = _number(digits, 10)
        end = start + length
        key, separator, value = content[start + len(digits) + 1 : end - 1].partition(b"=")
        if length <= len(digits) or end > len(content) or not separator:
            raise _damaged("a pax header is invalid")
        fields[key] = value
        start = end
    return fields


def _checked(header: _Header, extended: Mapping[bytes, bytes]) -> _Header:
    """Returns the header of a file or directory with its extended fields.

    Raises:
        DataError: if it is a link or a device, or its path is outside the archive.
    """
    name = extended.get(b"path", header.name)
    size = _number(extended[b"size"], 10) if b"size" in extended else header.size
    if len(name) > MAX_NAME_SIZE:
        raise unsafe_archive(f"a name of {len(name):,} bytes")
    shown = check_inside(_path(name))
    if header.kind not in (*_REGULAR, _DIRECTORY):
        raise unsafe_archive(f"{shown} is a link or a device")
    # Nothing follows the header of a directory, even if it declares a size.
    return _Header(name, 0 if header.kind == _DIRECTORY else size, header.kind)


def check_inside(path: PurePosixPath) -> str:
    """Returns a path for messages.

    Raises:
        DataError: if the path leaves the archive.
    """
    shown = repr(str(path)[:80].encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    parts = PurePosixPath(str(path).replace("\\", "/")).parts
    if path.is_absolute() or parts[:1] == ("/",) or ".." in parts or ":" in "".join(parts[:1]):
        raise unsafe_archive(f"the path {shown} is outside the archive")
    return shown


def _path(name: bytes) -> PurePosixPath:
    return PurePosixPath(name.decode("utf-8", "surrogateescape"))


def _damaged(reason: str) -> DataError:
    return DataError(f"not a tar archive, or damaged: {reason}", hint="download the archive again")


def unsafe_archive(reason: str) -> DataError:
    """Returns the error for an archive that may be malicious."""
    return DataError(f"unsafe archive: {reason}", hint="use another archive, and do not unpack it")
