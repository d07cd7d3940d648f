"""Locates the splits of a corpus: three files in a directory, or one file split by position."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.source import Source, read_file
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.errors import DataError
from ptblm.shipped import shipped_directory

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

CORPUS_NAMES = (*DATASETS, "sample")

_HINT = "--data ptb, --data sample, a directory with {ptb.,}{train,valid,test}.txt, or a text file"


def read_splits(
    path: str, tokenizer_name: str, splits: Iterable[Split] = SPLITS
) -> dict[Split, Source]:
    """Returns the requested splits of the corpus that `data.path` selects.

    Raises:
        DataError: if a split is missing, cannot be read, or would be empty.
    """
    location = corpus_path(path, tokenizer_name)
    if location.is_dir():
        files = {split: split_file(location, split, tokenizer_name) for split in splits}
        return {split: read_file(file) for split, file in files.items()}
    parts = split_by_position(read_file(location), tokenizer_name)
    return {split: parts[split] for split in splits}


def corpus_name(path: str) -> str:
    """Returns the corpus name: "ptb", "sample", or the name of the directory or file."""
    if path in CORPUS_NAMES:
        return path
    location = Path(path).resolve()
    return location.stem if location.is_file() else location.name


def corpus_path(path: str, tokenizer_name: str) -> Path:
    """Returns the directory or file that `data.path` selects by name or path.

    Raises:
        DataError: if it does not exist.
    """
    if path == "sample":
        return shipped_directory("data/sample")
    if path in DATASETS:
        dataset = DATASETS[path]
        first = f"{TOKENIZERS[tokenizer_name].file_prefixes[0]}train.txt"
        if not (dataset.directory / first).is_file():
            raise DataError(
                f"the {dataset.title} is not downloaded: {first} is missing",
                where=str(dataset.directory.resolve()),
                hint="run `ptblm download-data`, or use `--data sample`, the embedded corpus",
            )
        return dataset.directory
    location = Path(path)
    if not location.is_dir() and not location.is_file():
        problem = (
            "not a directory or regular file" if location.exists() else "no such directory or file"
        )
        raise DataError(f"{path}: {problem}", hint=_HINT)
    return location


def split_file(directory: Path, split: Split, tokenizer_name: str) -> Path:
    """Returns the file of a split, such as `train.txt` or `ptb.train.txt`.

    The prefix is the first of the tokenizer's prefixes that any split of the directory uses. All
    splits use this prefix, so that two corpora are never mixed.

    Raises:
        DataError: if the file is missing.
    """
    prefixes = TOKENIZERS[tokenizer_name].file_prefixes
    present = [p for p in prefixes if any((directory / f"{p}{s}.txt").is_file() for s in SPLITS)]
    names = [f"{prefix}{split}.txt" for prefix in present[:1] or prefixes]
    path = directory / names[0]
    if path.is_file():
        return path
    raise DataError(
        f"the {split} split is missing",
        where=str(directory),
        hint=f"add a file named {' or '.join(names)}",
    )


def split_by_position(whole: Source, tokenizer_name: str) -> dict[Split, Source]:
    """Splits a text: the first 90% is train, the next 5% is valid, and the last 5% is test.

    Both boundaries are rounded down to a byte. Except with the byte tokenizer, each boundary then
    moves to the next line start, so that no line is divided.

    Raises:
        DataError: if a split would be empty, or the file cannot be read.
    """
    boundaries = [whole.size * percent // 100 for percent in (90, 95)]
    if TOKENIZERS[tokenizer_name].splits_at_lines:
        boundaries = [whole.line_start(boundary) for boundary in boundaries]
    parts: dict[Split, Source] = {}
    for split, start, end in zip(SPLITS, [0, *boundaries], [*boundaries, whole.size], strict=True):
        if start == end:
            raise DataError(
                f"too short to be split by position: the {split} split would be empty",
                where=whole.name,
                hint="use a text with more lines, data.tokenizer byte, or a directory with "
                "{train,valid,test}.txt",
            )
        parts[split] = replace(whole, start=start, end=end)
    return parts


def split_rule(path: str, tokenizer_name: str) -> str | None:
    """Describes how a single file is split; None if the splits are separate files."""
    if corpus_path(path, tokenizer_name).is_dir():
        return None
    where = ", at line ends" if TOKENIZERS[tokenizer_name].splits_at_lines else ""
    return f"by position: 90% train, 5% valid, 5% test{where}"
