"""The size of a text in units that do not depend on a tokenizer."""

from dataclasses import dataclass

from ptblm.corpus.source import Source


@dataclass(frozen=True)
class TextSize:
    """The size of a text.

    Attributes:
        words: words between white space, and line ends. The last line ends too.
        utf8_bytes: bytes of the text.
    """

    words: int = 0
    utf8_bytes: int = 0

    def __add__(self, other: "TextSize") -> "TextSize":
        """Returns the size of both texts together."""
        return TextSize(self.words + other.words, self.utf8_bytes + other.utf8_bytes)


def text_size(source: Source) -> TextSize:
    """Returns the size of a text.

    Raises:
        DataError: if the text cannot be read.
    """
    words, raw = 0, b"\n"
    for _, raw in source.blocks(lambda raw: max(raw.rfind(b" "), raw.rfind(b"\n")) + 1):
        words += len(raw.decode("utf-8", "surrogateescape").split()) + raw.count(b"\n")
    return TextSize(words + (not raw.endswith(b"\n")), source.size)


def line_size(text: str) -> TextSize:
    """Returns the size of a line, given without its end."""
    return TextSize(len(text.split()) + 1, len(text.encode("utf-8", "surrogateescape")) + 1)
