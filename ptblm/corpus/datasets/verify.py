"""Compares the files of a corpus with what is published about them."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ptblm.corpus.datasets.base import DataFile
from ptblm.errors import DataError
from ptblm.files import open_regular, os_errors

WRONG_HINT = "the file was changed: download it again"
_PIECE_SIZE = 2**18


def is_good(path: Path, expected: DataFile) -> bool:
    """Returns whether a file has the published size, SHA-256 and number of tokens.

    Raises:
        OSError: if the file cannot be read.
    """
    with open_regular(path) as file:
        if expected.size not in (None, os.fstat(file.fileno()).st_size):
            return False
        if expected.sha256 is not None:
            return hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256
        return expected.tokens in (None, count_tokens(pieces(file)))


def check_file(
    name: str, expected: DataFile, size: int, sha256: str, hint: str, where: str | None = None
) -> None:
    """Raises DataError if a file does not have the published size and SHA-256."""
    what = None
    if expected.size not in (None, size):
        what = f"{size:,} bytes, expected {expected.size:,}"
    elif expected.sha256 not in (None, sha256):
        what = f"sha256 {sha256[:12]}..., expected {str(expected.sha256)[:12]}..."
    if what is not None:
        raise DataError(f"{name} has wrong content: {what}", where=where, hint=hint)


def check_archive(file: IO[bytes], expected: str, hint: str) -> None:
    """Raises DataError if an archive does not have the published SHA-256."""
    with os_errors(DataError, "cannot be read"):
        digest = hashlib.sha256()
        for piece in pieces(file):
            digest.update(piece)
    if (sha256 := digest.hexdigest()) != expected:
        what = f"not the public archive: sha256 {sha256[:12]}..., expected {expected[:12]}..."
        raise DataError(what, hint=hint)


def count_tokens(content: Iterable[bytes]) -> int:
    """Returns the number of words and line ends, as the word tokenizer counts them."""
    tokens, rest = 0, b""
    for piece in content:
        raw = rest + piece
        end = max(raw.rfind(b" "), raw.rfind(b"\n")) + 1
        tokens += len(raw[:end].decode("utf-8", "replace").split()) + raw.count(b"\n", 0, end)
        rest = raw[end:]
    return tokens + len(rest.decode("utf-8", "replace").split()) + (1 if rest else 0)


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    """Yields the rest of a file piece by piece."""
    with os_errors(DataError, "cannot be read"):
        while piece := file.read(_PIECE_SIZE):
            yield piece
