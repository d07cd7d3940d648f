"""Where the splits of a corpus lie: in three files of a directory, or in one file, cut in three."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from ptblm.corpus.datasets.ptb import DEFAULT_DIRECTORY
from ptblm.corpus.source import SPELLED, Source, read_file
from ptblm.corpus.tokenizers.base import Level
from ptblm.errors import DataError
from ptblm.shipped import shipped_directory

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

CORPUS_NAMES = ("ptb", "sample")

# What the files of a directory begin with, in the order in which they are looked for.
_PREFIXES: dict[Level, tuple[str, ...]] = {
    "word": ("ptb.", ""),
    "char": (SPELLED, ""),
    "byte": ("ptb.", ""),
}

_HINT = "--data ptb, --data sample, a directory with {ptb.,}{train,valid,test}.txt, or a text file"


def read_splits(path: str, level: Level, splits: Iterable[Split] = SPLITS) -> dict[Split, Source]:
    """The text of splits of the corpus that `data.path` names.

    Raises:
        DataError: if one is missing, can't be read, or would be empty after the cut.
    """
    place = corpus_path(path, level)
    if place.is_dir():
        files = {split: split_file(place, split, level) for split in splits}
        return {split: read_file(file) for split, file in files.items()}
    parts = cut_by_position(read_file(place), level)
    return {split: parts[split] for split in splits}


def corpus_name(path: str) -> str:
    """What to call the corpus at `path`: its own name, or its directory's, or its file's."""
    if path in CORPUS_NAMES:
        return path
    place = Path(path).resolve()
    return place.stem if place.is_file() else place.name


def corpus_path(path: str, level: Level) -> Path:
    """The directory or the file that `data.path` means: a name ("ptb", "sample") or a path.

    Raises:
        DataError: if there is none.
    """
    if path == "sample":
        return shipped_directory("data/sample")
    place = DEFAULT_DIRECTORY if path == "ptb" else Path(path)
    if path == "ptb" and not (place / f"{_PREFIXES[level][0]}train.txt").is_file():
        what = "Penn Treebank, by characters," if level == "char" else "Penn Treebank"
        raise DataError(
            f"the {what} is not here yet",
            where=str(place.resolve()),
            hint="`ptblm download-data` to fetch it, or `--data sample` for the embedded corpus",
        )
    if not place.is_dir() and not place.is_file():
        what = (
            "is no directory and no plain file" if place.exists() else "no such directory or file"
        )
        raise DataError(f"{path}: {what}", hint=_HINT)
    return place


def split_file(directory: Path, split: Split, level: Level) -> Path:
    """The file of a split: `ptb.train.txt` where there is one, else `train.txt`.

    At character level it is `ptb.char.train.txt` that goes before `train.txt`.

    Raises:
        DataError: if there is neither.
    """
    # All splits of a directory share one prefix: files of two corpora must not mix.
    prefixes = _PREFIXES[level]
    present = [p for p in prefixes if any((directory / f"{p}{s}.txt").is_file() for s in SPLITS)]
    names = [f"{prefix}{split}.txt" for prefix in present[:1] or prefixes]
    path = directory / names[0]
    if path.is_file():
        return path
    raise DataError(
        f"the {split} split is missing",
        where=str(directory),
        hint=f"a file named {' or '.join(names)} belongs there",
    )


def cut_by_position(whole: Source, level: Level) -> dict[Split, Source]:
    """The first 90% of a text to train on, the next 5% to validate, the last 5% to test.

    At byte level the cuts are at 90% and 95% of the bytes, rounded down. At the others each is
    at the first start of a line from there on, so that no line is torn.

    Raises:
        DataError: if nothing would be left for a split, or the file can't be read.
    """
    cuts = [whole.size * percent // 100 for percent in (90, 95)]
    if level != "byte":
        cuts = [whole.line_start(cut) for cut in cuts]
    parts: dict[Split, Source] = {}
    for split, start, end in zip(SPLITS, [0, *cuts], [*cuts, whole.size], strict=True):
        if start == end:
            raise DataError(
                f"too short to be cut by position: nothing is left for {split}",
                where=whole.name,
                hint="a text of more lines, data.tokenizer byte, or a directory with "
                "{train,valid,test}.txt",
            )
        parts[split] = replace(whole, start=start, end=end)
    return parts


def how_cut(path: str, level: Level) -> str | None:
    """How the corpus is cut, in words; None where its splits are files of their own."""
    if corpus_path(path, level).is_dir():
        return None
    where = "" if level == "byte" else ", at line ends"
    return f"by position: 90% train, 5% valid, 5% test{where}"
