"""Locates the text of a corpus and divides it into a train, a valid and a test split."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from ptblm.config.data import DataConfig
from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.layout import SPLITS, Split, corpus_directory, split_files
from ptblm.corpus.preparing import PreparedText, notes, prepare_text
from ptblm.corpus.source import Source, Unit, read_file
from ptblm.corpus.tokenizers import TOKENIZERS
from ptblm.errors import DataError
from ptblm.files import os_errors
from ptblm.paths import expand_path
from ptblm.shipped import shipped_directory

CORPUS_NAMES = (*DATASETS, "sample")

PIPE_HINT = "the text came from a pipe: save it in a file, and pass --data FILE"
_HINT = (
    "pass --data with the new path if the text was moved; --data takes ptb, sample, a directory "
    "with train, valid and test files, or a text file"
)
_WHERE: dict[Unit, str] = {
    "line": ", at line ends",
    "word": ", at spaces",
    "character": ", between characters",
    "byte": "",
}
# Parts are divided at line ends only if each part is at least this share of the text.
_MIN_SHARE = 0.01


@dataclass(frozen=True)
class RawCorpus:
    """The files of a corpus, unchanged.

    Attributes:
        location: the directory of the files, or the single file.
        files: the text of each split, if they are separate files.
        whole: the text of a single file, which contains all splits; None for separate files.
    """

    location: Path
    files: dict[Split, Source]
    whole: Source | None = None

    @property
    def sources(self) -> list[Source]:
        """The texts, in a fixed order."""
        return [*self.files.values()] if self.whole is None else [self.whole]


@dataclass(frozen=True)
class SplitTexts:
    """The text of each split, ready for a tokenizer.

    Attributes:
        sources: the text of each split.
        rule: how a single file is divided; None if the splits are separate files.
        notes: remarks about the texts, one line each.
    """

    sources: dict[Split, Source]
    rule: str | None
    notes: list[str]


def locate_corpus(config: DataConfig, splits: Iterable[Split] = SPLITS) -> RawCorpus:
    """Returns the files of the corpus that `data.path` selects.

    A directory without a test file gives a corpus without a test split.

    Raises:
        DataError: if a split is missing or a file cannot be read.
    """
    location = corpus_path(config.path, config.tokenizer)
    as_is = config.format == "raw"
    with os_errors(DataError, where=location, hint=_HINT):
        is_directory = location.is_dir()
    if not is_directory:
        return RawCorpus(location, {}, read_file(location, as_is=as_is))
    files = split_files(location, TOKENIZERS[config.tokenizer].file_prefixes, splits)
    sources = {
        split: read_file(path, as_is=as_is, may_be_pipe=False) for split, path in files.items()
    }
    return RawCorpus(location, sources)


def prepare_splits(raw: RawCorpus, config: DataConfig) -> SplitTexts:
    """Converts, cleans and divides the files of a corpus.

    Raises:
        DataError: if a text cannot be converted, or a split would be empty.
    """
    if raw.whole is not None:
        text = prepare_text(raw.whole, config)
        sources, unit = split_by_position(text.source, config.tokenizer)
        rule = f"by position: 90% train, 5% valid, 5% test{_WHERE[unit]}"
        return SplitTexts(sources, rule, notes([text], config))
    texts = {split: prepare_text(source, config) for split, source in raw.files.items()}
    if config.tokenizer != "word":  # which does not depend on the form
        _check_forms(texts)
    sources = {split: text.source for split, text in texts.items()}
    return SplitTexts(sources, None, notes(texts.values(), config))


def corpus_name(path: str) -> str:
    """Returns the corpus name: "ptb", "sample", or the name of the directory or file."""
    if path in CORPUS_NAMES:
        return path
    location = expand_path(path)
    if os.path.isdir(location):  # unlike Path.is_dir, never raises OSError
        return _final_name(location)
    if not os.path.isfile(location):
        return location.name
    # The name of a compressed file has two suffixes.
    name = Path(_final_name(location))
    is_compressed = name.suffix.lower() in {".gz", ".bz2", ".xz"}
    return (Path(name.stem) if is_compressed else name).stem


def corpus_path(path: str, tokenizer_name: str) -> Path:
    """Returns the directory or file that `data.path` selects by name or path.

    `~` and variables such as `$HOME` are expanded. For a directory that only contains a
    subdirectory with the corpus, as an unpacked archive does, the subdirectory is returned.

    Raises:
        DataError: if it does not exist.
    """
    if path == "sample":
        return shipped_directory("data/sample")
    if path in DATASETS:
        return _dataset_path(path, tokenizer_name)
    location = expand_path(path)
    where = _absolute(location)
    with os_errors(DataError, f"{path}: cannot be read", where=where, hint=_hint(path)):
        try:
            mode = location.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            is_link = os.path.islink(location)
            reason = "a link to a missing file" if is_link else "no such directory or file"
            raise DataError(f"{path}: {reason}", where=where, hint=_hint(path)) from None
    if stat.S_ISDIR(mode):
        return corpus_directory(location)
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise DataError(f"{path}: not a directory, a file or a pipe", hint=_HINT)
    return location


def shadowed_note(path: str) -> str | None:
    """Returns a note if `data.path` is a corpus name, and a local file or directory has it too."""
    is_directory = os.path.isdir(path)
    if path in CORPUS_NAMES and (is_directory or os.path.isfile(path)):
        dataset = DATASETS.get(path)
        if dataset and os.path.realpath(path) in (
            os.path.realpath(dataset.directory),
            os.path.realpath(dataset.single_file or dataset.directory),
        ):
            return None
        shown, kind = (f"{path}/", "directory") if is_directory else (path, "file")
        return (
            f"'{path}' selects the corpus of this name, not the {kind} {shown} here; "
            f"pass --data ./{path} to use the {kind}"
        )
    return None


def split_by_position(whole: Source, tokenizer_name: str) -> tuple[dict[Split, Source], Unit]:
    """Divides a text: the first 90% is train, the next 5% is valid, and the last 5% is test.

    Both boundaries are rounded down to a byte. Except with the byte tokenizer, each boundary then
    moves to the next line start. If a part would contain less than 1% of the text, because the
    lines are long, each boundary moves to the next word or, failing that, to the next character.

    Returns:
        The parts, and the unit at whose start the text is divided.

    Raises:
        DataError: if a split would be empty, or the file cannot be read.
    """
    boundaries = [whole.start + whole.size * percent // 100 for percent in (90, 95)]
    *coarse, finest = TOKENIZERS[tokenizer_name].divided_at
    for unit in (*coarse, finest):
        edges = [whole.start, *(whole.next_start(b, unit) for b in boundaries), whole.end]
        smallest = min(end - start for start, end in pairwise(edges))
        if smallest > 0 and (unit == finest or smallest >= _MIN_SHARE * whole.size):
            parts = [replace(whole, start=start, end=end) for start, end in pairwise(edges)]
            return dict(zip(SPLITS, parts, strict=True)), unit
    raise DataError(
        f"the text is too short to be split by position: it has {whole.size:,} bytes",
        where=whole.name,
        hint="use a longer text, or a directory with {train,valid,test}.txt",
    )


def _check_forms(texts: Mapping[Split, PreparedText]) -> None:
    """Raises DataError if the splits of a corpus have different forms."""
    if len({text.form for text in texts.values()}) > 1:
        described = ", ".join(f"{split} is {text.form}" for split, text in texts.items())
        raise DataError(
            f"the splits have different forms: {described}",
            hint="set data.format to the form of all splits",
        )


def _dataset_path(name: str, tokenizer_name: str) -> Path:
    """Returns the directory of a downloaded corpus, or its file if it is a single one."""
    dataset = DATASETS[name]
    first = dataset.first_file(TOKENIZERS[tokenizer_name].file_prefixes)
    with os_errors(DataError, where=dataset.directory):
        if (dataset.directory / first).is_file():
            return dataset.single_file or dataset.directory
    here = ""
    if os.path.isdir(name):
        here = f"pass --data ./{name} for the directory {name}/ here, "
    elif os.path.isfile(name):
        here = f"pass --data ./{name} for the file {name} here, "
    command = "ptblm download-data" if name == "ptb" else f"ptblm download-data {name}"
    raise DataError(
        f"{dataset.title} is not downloaded: {first} is missing",
        where=_absolute(dataset.directory),
        hint=f"{here}run `{command}`, or pass --data sample, the embedded corpus",
    )


def _final_name(path: Path) -> str:
    """Returns the name of the file or directory, not that of a link to it."""
    try:
        # Unlike Path.resolve, realpath does not raise RuntimeError for a loop of links.
        return os.path.basename(os.path.realpath(path))
    except OSError:  # the current directory does not exist
        return path.name


def _absolute(path: Path) -> str:
    """Returns the absolute path; the path itself if the current directory does not exist."""
    try:
        return os.path.abspath(path)
    except OSError:
        return str(path)


def is_pipe_name(path: str) -> bool:
    """Returns whether a path names an open file of one process, which another one cannot open."""
    return path == "/dev/stdin" or path.startswith(("/dev/fd/", "/proc/"))


def _hint(path: str) -> str:
    if path.lower() in CORPUS_NAMES:
        return f"did you mean --data {path.lower()}?"
    if path == "-":
        return "pass --data /dev/stdin to read standard input"
    if path.startswith(("http://", "https://", "ftp://")):
        return "download the file first, then pass its path"
    if is_pipe_name(path):
        return PIPE_HINT
    return _HINT
