"""What tests of the reader share."""

import io

from ptblm.corpus.reader import write_training_text
from ptblm.corpus.source import Source
from ptblm.corpus.tokenizers.base import Level
from ptblm.corpus.vocabulary import Vocabulary


def read_vocabulary(source: Source, level: Level) -> Vocabulary:
    """The vocabulary of a training text."""
    return write_training_text(source, level, lambda _: None, io.BytesIO())[0]


def raw(source: Source) -> bytes:
    """All bytes of a source."""
    return b"".join(block for _, block in source.blocks("byte"))
