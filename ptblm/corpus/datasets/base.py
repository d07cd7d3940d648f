"""Describes downloadable corpora. `fetch.py` downloads them."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """A file of a corpus.

    Attributes:
        size: size in bytes.
        sha256: SHA-256 in hexadecimal.
        required: whether a download without this file fails.
    """

    size: int
    sha256: str
    required: bool = True


@dataclass(frozen=True)
class Dataset:
    """A downloadable corpus.

    Attributes:
        title: full name for messages.
        license: short summary of the license.
        directory: default directory of the files.
        files: the files by name.
        folder: folder that contains the files in the public archive.
        urls: mirrors in order of preference. A URL that ends with "/" is a folder of files; any
            other URL is a tar archive.
    """

    title: str
    license: str
    directory: Path
    files: dict[str, DataFile]
    folder: str
    urls: tuple[str, ...]
