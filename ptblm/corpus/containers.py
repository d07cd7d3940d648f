"""Recognizes compressed files, archives and documents by their first bytes, never by their name.

Compressed files can come from strangers, so what they unpack to is bounded.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

from ptblm.errors import DataError

# Bytes that `container_of` needs: a tar archive has its signature at offset 257.
SIGNATURE_SIZE = 512

# A compressed file may unpack to 64 MiB and, beyond that, to a multiple of its own size.
MAX_UNPACKED_START = 2**26
_MAX_TEXT_RATIO = 20
_MAX_STREAMS = 100_000  # compressed parts, one after another
_MAX_PADDING = 2**20  # zero bytes between them
_READ_SIZE, _PIECE_SIZE = 2**14, 2**18
# `xz -9` needs 65 MiB.
_MAX_LZMA_MEMORY = 100 * 2**20
_TRUST_HINT = "unpack it first, if you trust its source"

_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "zlib": zlib.decompressobj,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=_MAX_LZMA_MEMORY),
    "lzma": lambda: lzma.LZMADecompressor(memlimit=_MAX_LZMA_MEMORY),
}
_SIGNATURES = [
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\xda", "zlib"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x1f\x9d", "compress (.Z)"),
    (b"LZIP\x01", "lzip"),
    (b"%PDF-", "PDF"),
    (b"{\\rtf", "RTF"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Microsoft Office"),
    (b"PAR1", "Parquet"),
    (b"ARROW1\x00", "Arrow"),
    (b"\x93NUMPY", "NumPy"),
    (b"\x89HDF\r\n", "HDF5"),
    (b"SQLite format 3\x00", "SQLite"),
]
_HINTS = {
    "zip": "unpack it with `unzip` (a .docx, .epub or .xlsx is a zip archive too: save it as text)",
    "tar": "unpack it with `tar -xf`, then pass the directory; for the Penn Treebank's archive, "
    "pass it to `ptblm download-data --from`",
    "7z": "unpack it with `7z x`",
    "RAR": "unpack it with `unrar x`",
    "Zstandard": "unpack it with `zstd -d`",
    "LZ4": "unpack it with `lz4 -d`",
    "compress (.Z)": "unpack it with `uncompress`",
    "lzip": "unpack it with `lzip -d`",
}


def container_of(start: bytes) -> str | None:
    """Returns the kind of a file, given its first bytes; None for text and anything unknown."""
    for signature, kind in _SIGNATURES:
        if start.startswith(signature):
            return kind
    if start[:3] == b"BZh" and start[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"
    if start[:3] == b"\x5d\0\0" and b"\0" in start[3:13]:
        return "lzma"
    return "tar" if start[257:262] == b"ustar" or _is_old_tar(start) else None


def _is_old_tar(start: bytes) -> bool:
    """Returns whether the first bytes are a tar header without signature, by its checksum."""
    header = start[:SIGNATURE_SIZE]
    try:
        expected = int(header[148:156].strip(b" \0"), 8)
    except ValueError:
        return False
    return expected == sum(header) - sum(header[148:156]) + 8 * ord(" ")


def is_compressed_text(kind: str | None) -> bool:
    """Returns whether `decompress` can read this kind of file."""
    return kind in _DECOMPRESSORS


def decompress(file: IO[bytes], kind: str, name: str) -> bytes:
    """Returns the text in a file that was compressed with gzip, bzip2, xz, lzma or zlib.

    Args:
        file: the file, at its start.
        kind: the kind of the file.
        name: name of the file in messages.

    Raises:
        DataError: if the file is damaged, unpacks to too many bytes, or contains another compressed
            file or an archive.
        OSError: if the file cannot be read.
    """
    text = io.BytesIO()
    for piece in unpacked(file, kind, name, _MAX_TEXT_RATIO):
        text.write(piece)
    inner = container_of(text.getbuffer()[:SIGNATURE_SIZE].tobytes())
    if inner is not None:
        raise not_text_error(inner, name)
    return text.getvalue()


def unpacked(file: IO[bytes], kind: str, name: str, max_ratio: int) -> Iterator[bytes]:
    """Yields the content of a compressed file piece by piece, in bounded memory.

    Args:
        file: the file, at its start.
        kind: the kind of the file.
        name: name of the file in messages.
        max_ratio: bound of the unpacked size as a multiple of the compressed size; 64 MiB are
            always allowed.

    Raises:
        DataError: if the file is damaged or unpacks to too many bytes.
        OSError: if the file cannot be read.
    """
    packed_size = unpacked_size = 0
    rest = b""
    for _ in range(_MAX_STREAMS):
        decompressor = _DECOMPRESSORS[kind]()
        while not decompressor.eof:
            needs_input = not rest and getattr(decompressor, "needs_input", True)
            if needs_input:
                rest = file.read(_READ_SIZE)
                packed_size += len(rest)
            piece = _decompressed_piece(decompressor, rest, kind, name)
            if needs_input and not rest and not piece and not decompressor.eof:
                raise _damaged_error(kind, name)
            rest = getattr(decompressor, "unconsumed_tail", b"")
            unpacked_size += len(piece)
            if unpacked_size > MAX_UNPACKED_START + max_ratio * packed_size:
                raise DataError(
                    f"the {kind} file unpacks to more than {unpacked_size - len(piece):,} bytes",
                    where=name,
                    hint=_TRUST_HINT,
                )
            yield piece
        rest = _after_padding(file, decompressor.unused_data)
        packed_size += len(rest)
        if not rest:
            return
    raise _damaged_error(kind, name)


def _decompressed_piece(decompressor: Any, packed: bytes, kind: str, name: str) -> bytes:
    try:
        piece: bytes = decompressor.decompress(packed, _PIECE_SIZE)
    except lzma.LZMAError as error:
        if "Memory" not in str(error):
            raise _damaged_error(kind, name) from None
        raise DataError(
            f"the {kind} file needs more than {_MAX_LZMA_MEMORY:,} bytes of memory to unpack",
            where=name,
            hint=_TRUST_HINT,
        ) from None
    except (OSError, EOFError, ValueError, zlib.error):
        raise _damaged_error(kind, name) from None
    return piece


def _after_padding(file: IO[bytes], rest: bytes) -> bytes:
    """Returns the bytes after the zero bytes that may follow a compressed part."""
    for _ in range(_MAX_PADDING // _READ_SIZE):
        stripped = rest.lstrip(b"\0")
        if stripped:
            return stripped
        rest = file.read(_READ_SIZE)
        if not rest:
            break
    return rest


def _damaged_error(kind: str, name: str) -> DataError:
    return DataError(
        f"the {kind} file is damaged or incomplete",
        where=name,
        hint="compress or download it again",
    )


def not_text_error(kind: str, name: str) -> DataError:
    """Returns the error for a file that contains no plain text."""
    archives = ("zip", "tar", "7z", "RAR")
    article = "an" if kind in ("LZ4", "RTF", "xz", "lzma", "HDF5", "Arrow") else "a"
    what = f"{article} {kind} {'archive' if kind in archives else 'file'}"
    if is_compressed_text(kind):
        return DataError(
            f"compressed twice: {what} in a compressed file", where=name, hint="unpack it first"
        )
    return DataError(f"{what}, not text", where=name, hint=_HINTS.get(kind, "save it as text"))
