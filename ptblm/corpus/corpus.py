"""A corpus: three splits of a text, one vocabulary, and what is known of their entropy."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from ptblm.corpus.ptb import DEFAULT_DIRECTORY
from ptblm.corpus.reader import Text, read_text, read_vocabulary
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.shipped import shipped_directory

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

CORPUS_NAMES = ("ptb", "sample")

_PREFIXES = ("ptb.", "")


@dataclass(frozen=True)
class Corpus:
    """The splits of a corpus as ids of the training split's vocabulary.

    Attributes:
        name: how people call it: "ptb", "sample", or the directory's name.
        vocabulary: the training split's words.
        splits: the text of each split.
        floors: the lowest perplexity an honest model can reach on each split, where known.
    """

    name: str
    vocabulary: Vocabulary
    splits: dict[Split, Text]
    floors: dict[Split, float]


def load_corpus(path: str) -> Corpus:
    """Loads all splits of the corpus that `data.path` names.

    Raises:
        DataError: if a split is missing, empty, or not text.
    """
    directory = corpus_directory(path)
    vocabulary = read_vocabulary(split_file(directory, "train"))
    files = {split: split_file(directory, split) for split in SPLITS}
    splits = {split: read_text(file, vocabulary) for split, file in files.items()}
    floors = {split: read_floor(directory, split, text.sha256) for split, text in splits.items()}
    return Corpus(
        name=corpus_name(path),
        vocabulary=vocabulary,
        splits=splits,
        floors={split: floor for split, floor in floors.items() if floor is not None},
    )


def corpus_name(path: str) -> str:
    """What to call the corpus at `path`: its own name, or its directory's."""
    return path if path in CORPUS_NAMES else Path(path).resolve().name


def corpus_directory(path: str) -> Path:
    """The directory that `data.path` means: a name ("ptb", "sample") or a directory's path.

    Raises:
        DataError: if there is none.
    """
    if path == "sample":
        return shipped_directory("data/sample")
    directory = DEFAULT_DIRECTORY if path == "ptb" else Path(path)
    if path == "ptb" and not (directory / "ptb.train.txt").is_file():
        raise DataError(
            "the Penn Treebank is not here yet",
            where=str(directory.resolve()),
            hint="`ptblm download-data` to fetch it, or `--data sample` for the embedded corpus",
        )
    if not directory.is_dir():
        what = "is a file; a corpus is a directory" if directory.exists() else "no such directory"
        raise DataError(
            f"{path}: {what}",
            hint="--data ptb, --data sample, or a directory with {ptb.,}{train,valid,test}.txt",
        )
    return directory


def split_file(directory: Path, split: Split) -> Path:
    """The file of a split: `ptb.train.txt` where there is one, else `train.txt`.

    Raises:
        DataError: if there is neither.
    """
    # All splits of a directory share one prefix: files of two corpora must not mix.
    prefix = next(
        (p for p in _PREFIXES if any((directory / f"{p}{s}.txt").is_file() for s in SPLITS)), ""
    )
    path = directory / f"{prefix}{split}.txt"
    if path.is_file():
        return path
    raise DataError(
        f"the {split} split is missing",
        where=str(directory),
        hint=f"a file named {prefix}{split}.txt belongs there",
    )


def read_floor(directory: Path, split: Split, sha256: str) -> float | None:
    """The lowest honest perplexity on a split, from the `floor.json` beside its text.

    The figure counts only for the very bytes that it was computed for.
    """
    try:
        entry = json.loads((directory / "floor.json").read_text())["splits"][split]
        floor, of = float(entry["perplexity"]), entry["sha256"]
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return floor if of == sha256 and 1 <= floor < math.inf else None
