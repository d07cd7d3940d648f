"""The byte tokenizer: each of the 256 bytes is a token, including the newline."""

import codecs
from collections.abc import Iterable, Iterator

import numpy as np

from ptblm.config.data import VocabularyConfig
from ptblm.corpus.source import TextBlocks
from ptblm.corpus.tokenizers.base import Tokenizer, check_not_empty
from ptblm.corpus.vocabulary import Ids, Vocabulary
from ptblm.errors import DataError


class ByteTokenizer(Tokenizer):
    """Tokens are the bytes of a file. The id of a byte is its value."""

    name = "byte"
    unit = "byte"
    required_tokens = tuple(chr(byte) for byte in range(256))
    keeps_ids = True
    line_end = "\n"
    divided_at = ("byte",)

    def __init__(
        self, vocabulary: Vocabulary | None = None, rule: VocabularyConfig | None = None
    ) -> None:
        super().__init__(vocabulary, rule)
        if self.vocabulary.tokens != self.required_tokens:
            raise DataError("the vocabulary does not consist of the 256 bytes")

    @staticmethod
    def block_end(raw: bytes) -> int:
        """Ends a block after any byte."""
        return len(raw)

    def encode(
        self,
        blocks: TextBlocks,
        *,
        grow_vocabulary: bool = False,  # noqa: ARG002
    ) -> Iterator[Ids]:
        """Yields the bytes of a text as ids. The vocabulary never grows.

        Raises:
            DataError: if the text is empty.
        """
        check_not_empty(blocks.source.size > 0, blocks.source.name, self.unit)
        for raw in blocks:
            yield np.frombuffer(raw, dtype=np.uint8)

    def tokens_of(self, line: str) -> list[str]:
        """Returns the bytes of a line, which was decoded with "surrogateescape"."""
        return list(line.encode("utf-8", "surrogateescape").decode("latin-1"))

    def spelled(self, token: str) -> str:
        """Returns a byte as an ASCII character or escaped; see `Tokenizer.spelled`."""
        return token if token.isascii() else f"\\x{ord(token):02x}"

    def decode(self, ids: Ids) -> str:
        """Returns the text as UTF-8.

        Encode it with "utf-8" and "surrogateescape" to restore the exact bytes.
        """
        return ids.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")

    def decode_stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yields each character when its last byte is known; see `Tokenizer.decode_stream`."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for index in ids:
            yield decoder.decode(bytes([index]))
        yield decoder.decode(b"", final=True)
