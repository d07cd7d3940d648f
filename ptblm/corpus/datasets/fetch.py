"""Makes sure that a directory contains the verified files of a known corpus.

A file gets its final name only after its SHA-256 is verified. A file that exists is never replaced:
either it is the expected one, or it belongs to the user.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ptblm.corpus.datasets.archive import extract
from ptblm.corpus.datasets.base import DataFile, Dataset
from ptblm.corpus.datasets.download import TARGET_HINT, TargetError, check_url, download
from ptblm.errors import DataError
from ptblm.files import open_regular, os_errors, remove_temporary_files, replacing

MAX_ARCHIVE_SIZE = 2**30  # bytes

_MIRROR_HINT = "offline or behind a proxy, pass a mirror (`--url`) or a local archive (`--from`)"
_ARCHIVE_HINT = (
    "pass the public simple-examples.tgz, or unpack the archive and pass the directory of the files"
)
_SOURCE_HINT = "pass a tar archive, or a directory of the files"
_DIRECTORY_HINT = "pass the directory that contains these files, or the public simple-examples.tgz"
_WRONG_HINT = "the file was changed: download it again, or pass the public simple-examples.tgz"


@dataclass(frozen=True)
class FetchResult:
    """The files of a corpus after `fetch`.

    Attributes:
        directory: directory of the files.
        verified: names of the files with the expected SHA-256.
        missing: names of the optional files that no mirror had.
        failures: one message per failed mirror; empty if no file is missing.
    """

    directory: Path
    verified: list[str]
    missing: list[str]
    failures: list[str]


def fetch(
    dataset: Dataset,
    directory: Path | None = None,
    *,
    urls: Sequence[str] | None = None,
    source: Path | None = None,
) -> FetchResult:
    """Makes sure that a directory contains the verified files of a corpus.

    Args:
        dataset: the corpus.
        directory: directory to store the files in; None for the default. Verified files are kept.
        urls: mirrors to try in order; None for the default mirrors.
        source: a local archive or directory to use instead of mirrors.

    Raises:
        DataError: if a required file could not be obtained, and verified files are kept; or if the
            directory contains other files of these names, and nothing is changed.
    """
    directory = directory or dataset.directory
    _check_directory(directory)
    failures: list[str] = []
    missing = _missing(dataset, directory)
    if missing and source is not None:
        contents = _local_contents(source, dataset, missing)
        _create(directory, missing)
        _install(directory, contents)
    elif missing:
        urls = urls or dataset.urls
        for url in urls:
            check_url(url)
        _create(directory, missing)
        failures = _download(urls, dataset, directory)
    missing = _missing(dataset, directory)
    if any(dataset.files[name].required for name in missing):
        not_found = f"not found: {', '.join(missing)}"
        if source is not None:
            raise DataError(not_found, where=str(source), hint=_DIRECTORY_HINT)
        raise DataError(failures or not_found, hint=_MIRROR_HINT)
    verified = [name for name in dataset.files if name not in missing]
    return FetchResult(directory, verified, missing, failures if missing else [])


def _check_directory(directory: Path) -> None:
    """Raises DataError if the target is something else than a directory or nothing."""
    with os_errors(TargetError, "cannot be read", where=directory, hint=TARGET_HINT):
        try:
            mode = directory.stat().st_mode
        except FileNotFoundError:
            if not directory.is_symlink():
                return
            kind = "a link to a missing directory"
        else:
            if stat.S_ISDIR(mode):
                return
            kind = "a file" if stat.S_ISREG(mode) else "not a directory"
    raise TargetError(f"{directory} is {kind}; --to needs a directory", hint=TARGET_HINT)


def _missing(dataset: Dataset, directory: Path) -> list[str]:
    """Returns the names of the files that do not exist.

    Raises:
        DataError: if a file has other content than expected, or cannot be read.
    """
    missing = []
    for name, expected in dataset.files.items():
        path = directory / name
        with os_errors(TargetError, "cannot be read", where=path, hint=TARGET_HINT):
            try:
                path.lstat()
            except FileNotFoundError:
                missing.append(name)
                continue
            if not path.is_file() or not _is_good(path, expected):
                raise TargetError(
                    f"{name} exists, and is not the file of the {dataset.title}",
                    where=str(path),
                    hint="move it, or pass another directory (`--to`)",
                )
    return missing


def _is_good(path: Path, expected: DataFile) -> bool:
    with open_regular(path) as file:
        has_size = os.fstat(file.fileno()).st_size == expected.size
        return has_size and hashlib.file_digest(file, "sha256").hexdigest() == expected.sha256


def _create(directory: Path, names: Iterable[str]) -> None:
    """Creates the directory, and removes what a killed process left in it."""
    with os_errors(TargetError, "cannot be created", where=directory, hint=TARGET_HINT):
        directory.mkdir(parents=True, exist_ok=True)
    with os_errors(TargetError, "cannot be written", where=directory, hint=TARGET_HINT):
        remove_temporary_files(directory, "|".join(map(re.escape, names)))


def _install(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Writes verified files under their final names."""
    for name, content in contents.items():
        path = directory / name
        with (
            os_errors(TargetError, "cannot be written", where=path, hint=TARGET_HINT),
            replacing(path) as file,
        ):
            file.write(content)


def _local_contents(source: Path, dataset: Dataset, names: Sequence[str]) -> dict[str, bytes]:
    """Reads and verifies files in a local archive or directory."""
    with os_errors(DataError, "cannot be read", where=source):
        try:
            mode = source.stat().st_mode
        except FileNotFoundError:
            raise DataError(
                f"--from {source}: no such file or directory", hint="check the path"
            ) from None
        if stat.S_ISDIR(mode):
            return _directory_contents(source, dataset, names)
        if not stat.S_ISREG(mode):
            raise DataError(
                "cannot be read: not a regular file", where=str(source), hint=_SOURCE_HINT
            )
        try:
            with open_regular(source) as file:
                return _archive_contents(file, dataset, names)
        except DataError as error:
            raise DataError(error.what, where=str(source), hint=error.hint) from None


def _directory_contents(source: Path, dataset: Dataset, names: Sequence[str]) -> dict[str, bytes]:
    contents = {}
    for name in names:
        for folder in ("", PurePosixPath(dataset.folder).name, dataset.folder):
            path = source / folder / name
            with os_errors(DataError, "cannot be read", where=path):
                if path.is_file():
                    with open_regular(path) as file:
                        contents[name] = _verified(file, name, dataset.files[name], str(path))
                    break
    return contents


def _download(urls: Sequence[str], dataset: Dataset, directory: Path) -> list[str]:
    """Downloads the missing files from the first mirrors that have them; returns the failures."""
    failures = []
    for url in urls:
        if not (names := _missing(dataset, directory)):
            break
        try:
            _download_from(url, dataset, directory, names)
        except TargetError:
            raise
        except DataError as error:
            shown = url if url.isprintable() else repr(url)
            failures.append(f"{shown}: {error.what}")
    return failures


def _download_from(url: str, dataset: Dataset, directory: Path, names: Sequence[str]) -> None:
    """Downloads files from a folder (ends with "/") or an archive."""
    if not url.endswith("/"):
        # Each mirror has a separate partial file, so that a later call can resume it.
        part = directory / f"archive-{hashlib.sha256(os.fsencode(url)).hexdigest()[:12]}.part"
        read = partial(_archive_contents, dataset=dataset, names=names)
        download(url, part, MAX_ARCHIVE_SIZE, _installer(directory, read))
        return
    for name in names:
        expected = dataset.files[name]
        read = partial(_named_content, name=name, expected=expected)
        part = directory / f"{name}.download.part"
        download(url + name, part, expected.size, _installer(directory, read))


def _installer(
    directory: Path, read: Callable[[IO[bytes]], dict[str, bytes]]
) -> Callable[[IO[bytes]], None]:
    """Returns a function that installs the verified files that `read` finds in a download."""
    return lambda file: _install(directory, read(file))


def _named_content(file: IO[bytes], name: str, expected: DataFile) -> dict[str, bytes]:
    return {name: _verified(file, name, expected)}


def _archive_contents(file: IO[bytes], dataset: Dataset, names: Sequence[str]) -> dict[str, bytes]:
    """Returns the verified files in an archive, identified by name and size."""
    contents = extract(file, {name: dataset.files[name].size for name in names})
    if not contents:
        raise DataError(
            f"contains none of {', '.join(names)} with the expected size", hint=_ARCHIVE_HINT
        )
    for name, content in contents.items():
        _check_content(content, name, dataset.files[name])
    return contents


def _verified(file: IO[bytes], name: str, expected: DataFile, where: str | None = None) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size != expected.size:
        raise DataError(
            f"{name} has wrong content: {size:,} bytes, expected {expected.size:,}",
            where=where,
            hint=_WRONG_HINT,
        )
    content = file.read(size)
    _check_content(content, name, expected, where)
    return content


def _check_content(content: bytes, name: str, expected: DataFile, where: str | None = None) -> None:
    """Raises DataError if the content does not have the expected SHA-256."""
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected.sha256:
        raise DataError(
            f"{name} has wrong content: sha256 {digest[:12]}..., expected "
            f"{expected.sha256[:12]}...",
            where=where,
            hint=_WRONG_HINT,
        )
