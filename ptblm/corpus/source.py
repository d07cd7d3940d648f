"""Input files and in-memory texts, read block by block in bounded memory."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import IO

from ptblm.errors import DataError

# Files with this prefix contain characters separated by spaces, with `_` for a space.
SPACE_SEPARATED_PREFIX = "ptb.char."

# Bytes per read. A block of this size and the arrays computed from it fit in a CPU cache.
BLOCK_SIZE = 2**18

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
        space_separated: whether the text is characters separated by spaces, with `_` for a space.
    """

    name: str
    content: bytes | Path
    start: int
    end: int
    space_separated: bool = False

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

    def line_start(self, offset: int) -> int:
        """Returns the offset of the first line start at or after `offset`, or `end` if none."""
        with self._open() as file:
            position = file.seek(max(self.start, offset - 1))
            while piece := file.read(min(BLOCK_SIZE, self.end - position)):
                found = piece.find(b"\n")
                if found >= 0:
                    return position + found + 1
                position += len(piece)
        return self.end

    def line_and_byte(self, offset: int) -> tuple[int, int]:
        """Returns the line of the byte at `offset` and its position in the line, both from 1."""
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
        with _os_errors_as_data_errors(self.name):
            content = self.content
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
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

        A byte order mark at the start of the text is skipped.

        Raises:
            DataError: if bytes are not UTF-8. The text before them is yielded first.
        """
        for offset, raw in self._read():
            bad: int | None = None
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = error.start
                text = raw[: self._block_end(raw[:bad])].decode("utf-8")
            yield offset, text.removeprefix("\ufeff") if offset == 0 else text
            if bad is not None:
                line, byte = self.source.line_and_byte(offset + bad)
                raise DataError(
                    f"not UTF-8 text (byte {byte} of the line)",
                    where=f"{self.source.name}:{line}",
                    hint="convert the file to UTF-8, for example with iconv, "
                    "or use data.tokenizer byte",
                )

    def _read(self) -> Iterator[tuple[int, bytes]]:
        self._digest = digest = hashlib.sha256()
        for offset, raw in self.source.blocks(self._block_end):
            digest.update(raw)
            yield offset, raw


def bytes_source(name: str, content: bytes, *, space_separated: bool = False) -> Source:
    """Returns the source for a text in memory."""
    return Source(name, content, 0, len(content), space_separated)


def read_file(path: Path) -> Source:
    """Returns the source for a file.

    A regular file is read later, block by block. Any other file is read into memory.

    Raises:
        DataError: if the file cannot be read.
    """
    space_separated = path.name.startswith(SPACE_SEPARATED_PREFIX)
    with _os_errors_as_data_errors(str(path)), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if S_ISREG(status.st_mode) and status.st_size:
            return Source(str(path), path, 0, status.st_size, space_separated)
        return bytes_source(str(path), file.read(), space_separated=space_separated)


@contextmanager
def _os_errors_as_data_errors(name: str) -> Iterator[None]:
    """Re-raises OSError as DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=name) from None
