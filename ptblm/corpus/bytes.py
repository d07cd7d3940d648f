"""Reads any file byte by byte: 256 tokens, nothing unknown, and a line's end is a byte too."""

import numpy as np

from ptblm.corpus.source import Source, refuse_empty
from ptblm.corpus.vocabulary import Ids, Vocabulary
from ptblm.errors import DataError

# Each byte as the character of its number, so that it is its own id.
BYTES = Vocabulary([chr(byte) for byte in range(256)])


def encode_bytes(source: Source, vocabulary: Vocabulary) -> tuple[Ids, int]:
    """The bytes as ids, and that none was unknown.

    Raises:
        DataError: if there are none, or the vocabulary is another.
    """
    if vocabulary.words != BYTES.words:
        raise DataError("the vocabulary is not that of the 256 bytes")
    refuse_empty(bool(source.raw), source.name, "byte")
    return np.frombuffer(source.raw, dtype=np.uint8).astype(np.int32), 0
