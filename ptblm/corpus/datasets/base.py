"""Describes downloadable corpora. `fetch.py` downloads them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ptblm.corpus.layout import Split


@dataclass(frozen=True)
class DataFile:
    """A file of a corpus.

    Attributes:
        size: size in bytes; None if no publication gives it.
        sha256: SHA-256 in hexadecimal; None if no publication gives it.
        required: whether a download without this file fails.
        members: pattern of the paths in the archive whose contents are joined, in alphabetical
            order, to this file, such as `train/*.txt`; None for the one file of the same name.
        parts: number of joined files.
        tokens: number of words and line ends; None if it is unknown. It is checked where no
            SHA-256 is known.
    """

    size: int | None = None
    sha256: str | None = None
    required: bool = True
    members: str | None = None
    parts: int = 1
    tokens: int | None = None


@dataclass(frozen=True)
class Archive:
    """A public archive with files of a corpus.

    Attributes:
        name: file name.
        files: names of the files that it provides.
        urls: mirrors in order of preference. A URL that ends with "/" is a folder of the files; any
            other URL is a tar or zip archive.
        sha256: SHA-256 in hexadecimal. None if every file has one, or none was published.
    """

    name: str
    files: tuple[str, ...]
    urls: tuple[str, ...]
    sha256: str | None = None


@dataclass(frozen=True)
class Dataset:
    """A downloadable corpus.

    Attributes:
        name: value of `data.path`.
        title: full name for messages.
        license: short summary of the license.
        directory: default directory of the files.
        files: the files by name.
        folder: folder that contains the files in the public archive.
        archives: the public archives.
        download_size: size of the archives in bytes; approximate if it was not published.
        disk_size: size of the files in bytes; approximate if it was not published.
        tokenizers: the tokenizers of published results.
        tokens: number of tokens of each split with the first tokenizer, if it was published.
        protocol: how the splits are made.
    """

    name: str
    title: str
    license: str
    directory: Path
    files: dict[str, DataFile]
    folder: str
    archives: tuple[Archive, ...]
    download_size: int
    disk_size: int
    tokenizers: tuple[str, ...] = ("word",)
    tokens: Mapping[Split, int] = field(default_factory=dict)
    protocol: str = ""

    @property
    def single_file(self) -> Path | None:
        """The file that contains all splits; None if each split is a file."""
        names = list(self.files)
        return self.directory / names[0] if len(names) == 1 else None

    def first_file(self, prefixes: Iterable[str]) -> str:
        """Returns the name of the file with the training split.

        Args:
            prefixes: prefixes of file names, in order of preference.
        """
        names = (f"{prefix}train.txt" for prefix in prefixes)
        return next((name for name in names if name in self.files), next(iter(self.files)))
