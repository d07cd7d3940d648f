"""What a downloadable corpus is: facts only; `fetch.py` does the work."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataFile:
    """A file of a corpus.

    Attributes:
        size: in bytes.
        sha256: in hexadecimal.
        required: whether a download without this file fails.
    """

    size: int
    sha256: str
    required: bool = True


@dataclass(frozen=True)
class Dataset:
    """A downloadable corpus.

    Attributes:
        title: name for people.
        license: terms of use, in a few words.
        directory: where the files are stored by default.
        files: by name.
        folder: the folder of the files in the public archive.
        urls: mirrors in order of preference. A URL that ends with "/" is a folder of files; any
            other is a tar archive.
    """

    title: str
    license: str
    directory: Path
    files: dict[str, DataFile]
    folder: str
    urls: tuple[str, ...]
