"""Rows of a text file of any size, read one after another."""

from collections.abc import Iterator
from dataclasses import dataclass

from ptblm.corpus.lines import text_name, text_pieces
from ptblm.errors import DataError

_MAX_ROW = 2**24  # bytes
# N-best lists repeat themselves, so they are compressed much more than other text.
_MAX_RATIO = 500


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        text: the row without its newline. Bytes that are not UTF-8 are surrogates.
        where: file and line.
    """

    text: str
    where: str

    def error(self, what: str, hint: str | None = None) -> DataError:
        """Returns an error at this row."""
        return DataError(what, where=self.where, hint=hint)


def read_rows(path: str) -> Iterator[Row]:
    """Yields the rows of a file, which can be compressed.

    A byte order mark at the start is left out.

    Args:
        path: the file, or "-" for standard input.

    Raises:
        DataError: if the file cannot be read, or contains a row of more than 16 MiB.
    """
    name = text_name(path)
    number, rest = 0, b""
    for piece in text_pieces(path, max_ratio=_MAX_RATIO):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            number += 1
            yield _row(line, name, number)
        if len(rest) > _MAX_ROW:
            raise DataError(
                f"the row is longer than {_MAX_ROW:,} bytes", where=f"{name}:{number + 1}"
            )
    if rest:
        yield _row(rest, name, number + 1)


def _row(line: bytes, name: str, number: int) -> Row:
    text = line.decode("utf-8", "surrogateescape")
    return Row(text.removeprefix("\ufeff") if number == 1 else text, f"{name}:{number}")
