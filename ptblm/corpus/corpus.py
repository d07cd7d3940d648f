"""A corpus: three splits encoded as ids, a vocabulary, and known entropy bounds."""

import math
import mmap
from dataclasses import dataclass

from ptblm.corpus.cache import cached_corpus
from ptblm.corpus.reader import EncodedText, read_corpus
from ptblm.corpus.splits import Split, corpus_name, corpus_path, read_splits, split_rule
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.files import read_json

# Minimum size of a cached corpus, in bytes. A smaller corpus takes about a second to read.
MIN_CACHED_SIZE = 2**25


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus, encoded with the vocabulary of the training split.

    Attributes:
        name: "ptb", "sample", or the name of the directory or file.
        tokenizer: the tokenizer, with the vocabulary of the training split.
        splits: the text of each split.
        entropy_bounds: the lowest possible expected perplexity of each split, if known.
        split_rule: describes how a single file was split; None if the splits are separate files.
        memory: the buffer that contains the ids.
    """

    name: str
    tokenizer: Tokenizer
    splits: dict[Split, EncodedText]
    entropy_bounds: dict[Split, float]
    split_rule: str | None
    memory: mmap.mmap | memoryview

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the training split."""
        return self.tokenizer.vocabulary

    def sha256(self) -> dict[Split, str]:
        """Returns the SHA-256 of the bytes of each split."""
        return {split: text.sha256 for split, text in self.splits.items()}

    def release(self) -> None:
        """Frees the memory of ids that are mapped from the cache. They are re-read when used.

        The operating system counts mapped pages as memory of the process, although it can free
        them at any time. The ids are never written to, so nothing is lost.
        """
        if isinstance(self.memory, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.memory.madvise(mmap.MADV_DONTNEED)


def load_corpus(path: str, tokenizer_name: str = "word") -> Corpus:
    """Loads all splits of the corpus that `data.path` selects.

    Args:
        path: a corpus name, a directory or a file.
        tokenizer_name: "word", "char" or "byte".

    Raises:
        DataError: if a split is missing, empty, or cannot be tokenized.
    """
    sources = read_splits(path, tokenizer_name)
    name = corpus_name(path)
    encoded = None
    if sum(source.size for source in sources.values()) >= MIN_CACHED_SIZE:
        location = corpus_path(path, tokenizer_name)
        encoded = cached_corpus(location, name, tokenizer_name, sources)
    encoded = encoded or read_corpus(sources, tokenizer_name)
    bounds = {
        split: read_entropy_bound(path, split, text.sha256, tokenizer_name)
        for split, text in encoded.splits.items()
    }
    return Corpus(
        name=name,
        tokenizer=encoded.tokenizer,
        splits=encoded.splits,
        entropy_bounds={split: bound for split, bound in bounds.items() if bound is not None},
        split_rule=split_rule(path, tokenizer_name),
        memory=encoded.memory,
    )


def read_entropy_bound(path: str, split: Split, sha256: str, tokenizer_name: str) -> float | None:
    """Reads the lowest possible expected perplexity of a split from `entropy_bound.json`.

    Returns:
        The perplexity, or None if the file is missing, malformed, or was computed for a different
        text or tokenizer.
    """
    content = read_json(corpus_path(path, tokenizer_name) / "entropy_bound.json")
    try:
        entry = content["splits"][split]
        bound, hash_of_text = float(entry["perplexity"]), entry["sha256"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    is_same = (content.get("tokenizer"), hash_of_text) == (tokenizer_name, sha256)
    return bound if is_same and 1 <= bound < math.inf else None
