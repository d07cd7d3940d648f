"""Reads any file byte by byte: 256 tokens, nothing unknown, and a line's end is a byte too."""

from collections.abc import Iterator

import numpy as np

from ptblm.corpus.source import Source, Watcher, refuse_empty
from ptblm.corpus.vocabulary import Ids, Vocabulary

# Each byte as the character of its number, so that it is its own id.
BYTES = Vocabulary([chr(byte) for byte in range(256)])


def encode_bytes(source: Source, watch: Watcher) -> Iterator[Ids]:
    """Yields a text's bytes, which are their own numbers, an array for each block.

    Raises:
        DataError: if there are none.
    """
    refuse_empty(source.size > 0, source.name, "byte")
    for _, raw in source.blocks("byte"):
        watch(raw)
        yield np.frombuffer(raw, dtype=np.uint8)
