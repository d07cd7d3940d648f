"""A corpus: three splits encoded as ids, a vocabulary, and known entropy bounds."""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ptblm.config.data import DataConfig
from ptblm.corpus.cache import cached_corpus
from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.datasets.base import Dataset
from ptblm.corpus.layout import Split
from ptblm.corpus.reader import EncodedText, read_corpus
from ptblm.corpus.splits import corpus_name, locate_corpus, shadowed_note
from ptblm.corpus.tokenizer_file import read_tokenizer_file
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.corpus.vocabulary_file import read_vocabulary
from ptblm.json_files import read_json
from ptblm.paths import expand_path

# Minimum size of a cached corpus, in bytes. A smaller corpus takes about a second to read.
MIN_CACHED_SIZE = 2**25


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus, encoded as ids. There may be no test split.

    Attributes:
        name: "ptb", "sample", or the name of the directory or file.
        tokenizer: the tokenizer, with the vocabulary of the training split.
        splits: the text of each split.
        entropy_bounds: the lowest possible expected perplexity of each split, if known.
        split_rule: describes how a single file was split; None if the splits are separate files.
        notes: remarks about the text, one line each, for example about sentence marks.
        memory: the buffer that contains the ids.
    """

    name: str
    tokenizer: Tokenizer
    splits: dict[Split, EncodedText]
    entropy_bounds: dict[Split, float]
    split_rule: str | None
    notes: list[str]
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


def load_corpus(config: DataConfig, vocabulary: Vocabulary | None = None) -> Corpus:
    """Loads all splits of the corpus that `data.path` selects.

    Args:
        config: the config of the corpus.
        vocabulary: the tokens and their ids; None to build a vocabulary from the training split,
            or to read the file that `data.vocabulary.file` names.

    Raises:
        DataError: if a split is missing, empty, or cannot be tokenized.
    """
    if vocabulary is None and config.vocabulary.file is not None:
        path = expand_path(config.vocabulary.file)
        is_bpe = config.tokenizer == "bpe"
        vocabulary = read_tokenizer_file(path) if is_bpe else read_vocabulary(path, config)
    raw = locate_corpus(config)
    name = corpus_name(config.path)
    encoded = None
    if sum(source.size for source in raw.sources) >= MIN_CACHED_SIZE:
        encoded = cached_corpus(name, config, vocabulary, raw)
    encoded = encoded or read_corpus(raw, config, vocabulary)
    written = encoded.written
    bounds = {
        split: read_entropy_bound(raw.location, config.tokenizer, split, text.sha256)
        for split, text in encoded.splits.items()
    }
    shadowed = shadowed_note(config.path)
    known = DATASETS.get(config.path)
    counts = {split: text.tokens for split, text in written.ranges.items()}
    return Corpus(
        name=name,
        tokenizer=written.tokenizer,
        splits=encoded.splits,
        entropy_bounds={split: bound for split, bound in bounds.items() if bound is not None},
        split_rule=written.split_rule,
        notes=[
            *([] if shadowed is None else [shadowed]),
            *([] if known is None else protocol_notes(known, config, counts)),
            *written.notes,
        ],
        memory=encoded.memory,
    )


def protocol_notes(dataset: Dataset, config: DataConfig, tokens: Mapping[Split, int]) -> list[str]:
    """Returns a note for each way in which a known corpus is read unlike in publications.

    Args:
        dataset: the corpus.
        config: how it is read.
        tokens: the number of tokens of each split.
    """
    if config.tokenizer not in dataset.tokenizers:
        return [f"published results of {dataset.title} use --tokenizer {dataset.tokenizers[0]}"]
    if config.tokenizer != dataset.tokenizers[0]:
        return []
    return [
        f"the {split} split has {tokens[split]:,} tokens; that of publications has {expected:,}"
        for split, expected in dataset.tokens.items()
        if tokens.get(split, expected) != expected
    ]


def read_entropy_bound(
    location: Path, tokenizer_name: str, split: Split, sha256: str
) -> float | None:
    """Reads the lowest possible expected perplexity of a split from `entropy_bound.json`.

    Args:
        location: the directory of the corpus.
        tokenizer_name: "word", "char", "byte" or "bpe".
        split: the split.
        sha256: SHA-256 of the text, in hexadecimal.

    Returns:
        The perplexity, or None if the file is missing, malformed, or was computed for a different
        text or tokenizer.
    """
    content = read_json(location / "entropy_bound.json")
    try:
        entry = content["splits"][split]
        bound, hash_of_text = float(entry["perplexity"]), entry["sha256"]
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    is_same = (content.get("tokenizer"), hash_of_text) == (tokenizer_name, sha256)
    return bound if is_same and 1 <= bound < math.inf else None
