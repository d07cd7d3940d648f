"""A corpus: three splits of a text, one vocabulary, and what is known of their entropy."""

import math
import mmap
from dataclasses import dataclass

from ptblm.corpus.cache import cached_corpus
from ptblm.corpus.reader import Text, read_corpus
from ptblm.corpus.splits import Split, corpus_name, corpus_path, how_cut, read_splits
from ptblm.corpus.tokenizers.base import Level
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import read_json

# Bytes of text from which on a corpus is cached: less is read in about a second.
WORTH_CACHING = 2**25


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus as ids of the training split's vocabulary.

    Attributes:
        name: how people call it: "ptb", "sample", or the directory's or the file's name.
        level: what its tokens are.
        vocabulary: the training split's tokens.
        splits: the text of each split.
        floors: the lowest perplexity an honest model can reach on each split, where known.
        cut: how one file was cut into the splits, in words; None where they are three files.
        memory: where the ids are.
    """

    name: str
    level: Level
    vocabulary: Vocabulary
    splits: dict[Split, Text]
    floors: dict[Split, float]
    cut: str | None
    memory: mmap.mmap | memoryview

    def release(self) -> None:
        """Lets go of the parts of the ids' file that are in memory; those in use come back.

        The system counts them for the process, though it could take them at any time. Nothing is
        lost: nobody writes to the ids.
        """
        if isinstance(self.memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


def load_corpus(path: str, level: Level = "word") -> Corpus:
    """Loads all splits of the corpus that `data.path` names.

    Raises:
        DataError: if a split is missing, empty, or not text.
    """
    sources = read_splits(path, level)
    name = corpus_name(path)
    encoded = None
    if sum(source.size for source in sources.values()) >= WORTH_CACHING:
        encoded = cached_corpus(corpus_path(path, level), name, level, sources)
    encoded = encoded or read_corpus(sources, level)
    splits = encoded.splits
    floors = {split: read_floor(path, split, text.sha256, level) for split, text in splits.items()}
    return Corpus(
        name=name,
        level=level,
        vocabulary=encoded.vocabulary,
        splits=splits,
        floors={split: floor for split, floor in floors.items() if floor is not None},
        cut=how_cut(path, level),
        memory=encoded.memory,
    )


def read_floor(path: str, split: Split, sha256: str, level: Level) -> float | None:
    """The lowest honest perplexity on a split, from the `floor.json` beside its text.

    The figure counts only for the very bytes that it was computed for, read word by word.
    """
    if level != "word":
        return None
    try:
        entry = read_json(corpus_path(path, level) / "floor.json")["splits"][split]
        floor, of = float(entry["perplexity"]), entry["sha256"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return floor if of == sha256 and 1 <= floor < math.inf else None
