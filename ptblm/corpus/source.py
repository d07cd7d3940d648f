"""Input files and in-memory texts, read block by block in bounded memory."""

import hashlib
import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from ptblm.corpus.containers import (
    SIGNATURE_SIZE,
    container_of,
    decompress,
    is_compressed_text,
    not_text_error,
)
from ptblm.errors import DataError
from ptblm.files import open_regular, os_errors

# Bytes per read. A block of this size and the arrays computed from it fit in a CPU cache.
BLOCK_SIZE = 2**18

# Where a text can be divided.
Unit = Literal["line", "word", "character", "byte"]
_LINE_END, _WORD_END = re.compile(rb"\n"), re.compile(rb"[ \t\n]")
_MAX_CHARACTER_SIZE = 4  # bytes of a UTF-8 character

# Returns how many bytes can be tokenized without the bytes that follow; 0 if none.
BlockEnd = Callable[[bytes], int]


@dataclass(frozen=True)
class Source:
    """A range of bytes in a text.

    Attributes:
        name: name used in messages.
        content: all bytes of the text, or the path of the file that contains them.
        start: offset of the range in the text.
        end: offset of the end of the range in the text.
        compression: how the file was compressed, such as "gzip"; None if it was not.
    """

    name: str
    content: bytes | Path
    start: int
    end: int
    compression: str | None = None

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.end - self.start

    def blocks(self, block_end: BlockEnd = len) -> Iterator[tuple[int, bytes]]:
        """Yields the range block by block, each with its offset in the text.

        Blocks end where `block_end` allows. A token that is longer than a block makes the block
        longer.

        Raises:
            DataError: if the file cannot be read.
        """
        with self._open() as file:
            offset = file.seek(self.start)
            rest = b""
            # The read size grows with `rest`, so that a long token is not copied for each block.
            while piece := file.read(
                min(max(BLOCK_SIZE, len(rest)), self.end - offset - len(rest))
            ):
                raw = rest + piece
                end = block_end(raw)
                if end:
                    yield offset, raw[:end]
                offset, rest = offset + end, raw[end:]
            if rest:
                yield offset, rest

    def sha256(self) -> str:
        """Returns the SHA-256 of the bytes, in hexadecimal.

        Raises:
            DataError: if the file cannot be read.
        """
        digest = hashlib.sha256()
        for _, raw in self.blocks():
            digest.update(raw)
        return digest.hexdigest()

    def read(self, size: int | None = None) -> bytes:
        """Returns the first `size` bytes of the range, or all bytes.

        Raises:
            DataError: if the file cannot be read.
        """
        with self._open() as file:
            file.seek(self.start)
            return file.read(self.size if size is None else min(size, self.size))

    def next_start(self, offset: int, unit: Unit) -> int:
        """Returns the offset of the first line, word, character or byte at or after `offset`.

        Returns `end` if there is none. A word starts after a space, a tab or a newline.

        Raises:
            DataError: if the file cannot be read.
        """
        if unit == "byte":
            return offset
        with self._open() as file:
            if unit == "character":
                file.seek(offset)
                following = file.read(_MAX_CHARACTER_SIZE)
                return offset + next(
                    (at for at, byte in enumerate(following) if byte & 0xC0 != 0x80), 0
                )
            separator = _LINE_END if unit == "line" else _WORD_END
            position = file.seek(max(self.start, offset - 1))
            while piece := file.read(min(BLOCK_SIZE, self.end - position)):
                found = separator.search(piece)
                if found:
                    return position + found.end()
                position += len(piece)
        return self.end

    def line_and_byte(self, offset: int) -> tuple[int, int]:
        """Returns the line of the byte at `offset` and its position in the line, both from 1.

        Raises:
            DataError: if the file cannot be read.
        """
        line, line_start, position = 1, 0, 0
        with self._open() as file:
            while piece := file.read(min(BLOCK_SIZE, offset - position)):
                newlines = piece.count(b"\n")
                if newlines:
                    line, line_start = line + newlines, position + piece.rfind(b"\n") + 1
                position += len(piece)
        return line, offset - line_start + 1

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        with _reading(self.name):
            content = self.content
            with open_text(content) if isinstance(content, Path) else io.BytesIO(content) as file:
                yield file


class TextBlocks:
    """The blocks of a source for a tokenizer. Each iteration reads the source from its start.

    Args:
        source: the text.
        block_end: returns where a block may end; see `Source.blocks`.
    """

    def __init__(self, source: Source, block_end: BlockEnd) -> None:
        self.source = source
        self._block_end = block_end
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes read by the last iteration, in hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[bytes]:
        """Yields the bytes block by block.

        Raises:
            DataError: if the file cannot be read.
        """
        return (raw for _, raw in self._read())

    def decoded(self) -> Iterator[tuple[int, str]]:
        """Yields the UTF-8 text block by block, each with its offset in bytes.

        Raises:
            DataError: if the file cannot be read, or is not UTF-8 because it changed after it was
                checked.
        """
        for offset, raw in self._read():
            try:
                yield offset, raw.decode("utf-8")
            except UnicodeDecodeError:
                raise DataError(
                    "the file changed while it was read", where=self.source.name
                ) from None

    def _read(self) -> Iterator[tuple[int, bytes]]:
        self._digest = digest = hashlib.sha256()
        for offset, raw in self.source.blocks(self._block_end):
            digest.update(raw)
            yield offset, raw


def bytes_source(name: str, content: bytes) -> Source:
    """Returns the source for a text in memory."""
    return Source(name, content, 0, len(content))


def read_file(path: Path, *, as_is: bool = False, may_be_pipe: bool = True) -> Source:
    """Returns the source for a file. A compressed file becomes the text that it contains.

    A regular file is read later, block by block. The text of a pipe, a terminal or a compressed
    file is kept in memory.

    Args:
        path: the file.
        as_is: whether to read the bytes of a compressed file, an archive or a document unchanged.
        may_be_pipe: whether the file can be a pipe or a terminal, which a user has to name
            explicitly, because reading waits for another process.

    Raises:
        DataError: if the file cannot be read or decompressed, or is an archive, a document or a
            device.
    """
    name = str(path)
    with _reading(name), open_text(path, may_be_pipe=may_be_pipe) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return read_content(file.read() or b"", name, as_is=as_is)
        kind = None if as_is else container_of(file.read(SIGNATURE_SIZE))
        if kind is None:
            return Source(name, path, 0, status.st_size)
        file.seek(0)
        return _from_container(file, kind, name)


def read_content(content: bytes, name: str, *, as_is: bool = False) -> Source:
    """Returns the source for the content of a file; see `read_file`.

    Raises:
        DataError: if the content is an archive, a document or a damaged compressed file.
    """
    kind = None if as_is else container_of(content[:SIGNATURE_SIZE])
    if kind is None:
        return bytes_source(name, content)
    return _from_container(io.BytesIO(content), kind, name)


def _from_container(file: IO[bytes], kind: str, name: str) -> Source:
    if not is_compressed_text(kind):
        raise not_text_error(kind, name)
    return replace(bytes_source(name, decompress(file, kind, name)), compression=kind)


def open_text(path: Path, *, may_be_pipe: bool = False) -> io.BufferedReader:
    """Opens a regular file, or, if `may_be_pipe`, a pipe or a terminal that the user named.

    Raises:
        OSError: if it cannot be opened or is anything else.
    """
    mode = path.stat().st_mode
    if may_be_pipe and stat.S_ISFIFO(mode):
        return path.open("rb")
    if may_be_pipe and stat.S_ISCHR(mode):
        file = path.open("rb", buffering=0)
        if file.isatty():
            return io.BufferedReader(file)
        file.close()
    return io.BufferedReader(open_regular(path))


def _reading(name: str) -> AbstractContextManager[None]:
    return os_errors(DataError, where=name)
