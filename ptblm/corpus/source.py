"""The bytes of a text, and where they are from: read block by block, whatever their number."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import IO

from ptblm.corpus.tokenizers.base import Level
from ptblm.errors import DataError

# Files named so hold characters with spaces between them, and `_` for the space itself.
SPELLED = "ptb.char."

# Bytes read at a time: few enough that they, and what is made of them, stay in a CPU's cache.
BLOCK = 2**18

# What sees all bytes that are read, in order: a checksum.
Watcher = Callable[[bytes], object]


@dataclass(frozen=True)
class Source:
    """A stretch of a text's bytes.

    Attributes:
        name: how messages call where they are from.
        content: all bytes of the text, or the file that has them.
        start: where in the text the stretch begins.
        end: where it ends.
        is_spelled: whether they are characters with spaces between, and `_` for a space.
    """

    name: str
    content: bytes | Path
    start: int
    end: int
    is_spelled: bool = False

    @property
    def size(self) -> int:
        """In bytes."""
        return self.end - self.start

    def blocks(self, level: Level) -> Iterator[tuple[int, bytes]]:
        """The stretch block by block, each with its place in the text.

        A block ends where a token of `level` may end, whatever length that takes.

        Raises:
            DataError: if the file can't be read.
        """
        with self._opened() as file:
            place = file.seek(self.start)
            rest = b""
            # Where a token is longer than a block, pieces grow: it is not copied at every one.
            while piece := file.read(min(max(BLOCK, len(rest)), self.end - place - len(rest))):
                raw = rest + piece
                end = _last_end(raw, level)
                if end:
                    yield place, raw[:end]
                place, rest = place + end, raw[end:]
            if rest:
                yield place, rest

    def sha256(self) -> str:
        """Of the bytes.

        Raises:
            DataError: if the file can't be read.
        """
        digest = hashlib.sha256()
        for _, raw in self.blocks("byte"):
            digest.update(raw)
        return digest.hexdigest()

    def line_start(self, place: int) -> int:
        """The first start of a line from `place` on; the stretch's end where there is none."""
        with self._opened() as file:
            at = file.seek(max(self.start, place - 1))
            while piece := file.read(min(BLOCK, self.end - at)):
                found = piece.find(b"\n")
                if found >= 0:
                    return at + found + 1
                at += len(piece)
        return self.end

    def line_and_byte(self, place: int) -> tuple[int, int]:
        """On which line of the text a byte is, and its number on that line, both from 1."""
        line, line_start, at = 1, 0, 0
        with self._opened() as file:
            while piece := file.read(min(BLOCK, place - at)):
                newlines = piece.count(b"\n")
                if newlines:
                    line, line_start = line + newlines, at + piece.rfind(b"\n") + 1
                at += len(piece)
        return line, place - line_start + 1

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        with _explained(self.name):
            content = self.content
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as file:
                yield file


def bytes_source(name: str, content: bytes, *, is_spelled: bool = False) -> Source:
    """A text that is in memory."""
    return Source(name, content, 0, len(content), is_spelled)


def read_file(path: Path) -> Source:
    """A file's text, of which nothing is read yet if the system can say how long it is.

    Raises:
        DataError: if it can't be read.
    """
    is_spelled = path.name.startswith(SPELLED)
    with _explained(str(path)), path.open("rb") as file:
        status = os.fstat(file.fileno())
        if S_ISREG(status.st_mode) and status.st_size:
            return Source(str(path), path, 0, status.st_size, is_spelled)
        return bytes_source(str(path), file.read(), is_spelled=is_spelled)


def decoded(source: Source, level: Level, watch: Watcher) -> Iterator[tuple[int, str]]:
    """A text's characters, block by block, each block with its place; no byte order mark.

    Raises:
        DataError: at bytes that are no UTF-8, with their line; what is before them came first.
    """
    for place, raw in source.blocks(level):
        watch(raw)
        bad: int | None = None
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad = error.start
            text = raw[: _last_end(raw[:bad], "word")].decode("utf-8")
        yield place, text.removeprefix("\ufeff") if place == 0 else text
        if bad is not None:
            line, byte = source.line_and_byte(place + bad)
            raise DataError(
                f"not UTF-8 text (byte {byte} of the line)",
                where=f"{source.name}:{line}",
                hint="convert the file to UTF-8, for instance with iconv, or use --tokenizer byte",
            )


def refuse_empty(has_tokens: bool, name: str, unit: str) -> None:
    """Raises DataError unless a text has tokens."""
    if not has_tokens:
        raise DataError("the text is empty", where=name, hint=f"give a file with {unit}s in it")


def _last_end(raw: bytes, level: Level) -> int:
    """Up to where the bytes can be read without those that follow; 0 if nowhere."""
    match level:
        case "word":
            return max(raw.rfind(b" "), raw.rfind(b"\n")) + 1
        case "char":
            # A character's further bytes, at most three, are 10xxxxxx.
            starts = [at for at in range(max(0, len(raw) - 4), len(raw)) if raw[at] & 0xC0 != 0x80]
            return starts[-1] if starts else len(raw)
        case "byte":
            return len(raw)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Within this, what the system says of a file is raised as DataError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"can't be read: {error.strerror}", where=name) from None
