"""Recognizes compressed files, archives and documents by their first bytes, never by their name."""

import bz2
import gzip
import lzma
import zlib
from collections.abc import Callable

from ptblm.errors import DataError

# Bytes that `container_of` needs: a tar archive has its signature at offset 257.
SIGNATURE_SIZE = 512

_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "bzip2": bz2.decompress,
    "xz": lzma.decompress,
    "lzma": lzma.decompress,
    "zlib": zlib.decompress,
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
    return kind in _DECOMPRESS


def decompress(content: bytes, kind: str, name: str) -> bytes:
    """Returns the text in a file that was compressed with gzip, bzip2, xz, lzma or zlib.

    Args:
        content: the whole file.
        kind: the kind of the file.
        name: name of the file in messages.

    Raises:
        DataError: if the file is damaged, or contains another compressed file or an archive.
    """
    try:
        text = _DECOMPRESS[kind](content)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError):
        raise DataError(
            f"the {kind} file is damaged or incomplete",
            where=name,
            hint="compress or download it again",
        ) from None
    inner = container_of(text[:SIGNATURE_SIZE])
    if inner is not None:
        raise not_text_error(inner, name)
    return text


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
