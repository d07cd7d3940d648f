"""Makes sure that a directory contains the files of a known corpus.

A file gets its final name only after it is verified. A file that exists is never replaced: either
it is the expected one, or it belongs to the user.
"""

import hashlib
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from ptblm.corpus.datasets import install
from ptblm.corpus.datasets.base import Archive, Dataset
from ptblm.corpus.datasets.download import TARGET_HINT, TargetError, check_url, download
from ptblm.corpus.datasets.verify import is_good
from ptblm.errors import DataError
from ptblm.files import os_errors, remove_temporary_files

logger = logging.getLogger(__name__)

MAX_ARCHIVE_SIZE = 2**30  # bytes

_MIRROR_HINT = "offline or behind a proxy, pass a mirror (`--url`) or a local archive (`--from`)"


@dataclass(frozen=True)
class FetchResult:
    """The files of a corpus after `fetch`.

    Attributes:
        directory: directory of the files.
        verified: names of the files that match the published values.
        missing: names of the optional files that no mirror had.
        failures: one message per failed mirror; empty if no file is missing.
        unverified: names of the files for which no checksum and no number of tokens was published.
    """

    directory: Path
    verified: list[str]
    missing: list[str]
    failures: list[str]
    unverified: list[str]


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
        target = install.Target(dataset, directory, partial(_create, directory, missing))
        install.from_local(source, target, missing)
    elif missing:
        for url in urls or [url for archive in dataset.archives for url in archive.urls]:
            check_url(url)
        if urls and len(dataset.archives) > 1:
            names = ", ".join(archive.name for archive in dataset.archives)
            raise DataError(
                f"{dataset.title} consists of several archives: {names}",
                hint="download them, and pass their directory (`--from`) instead of `--url`",
            )
        _create(directory, missing)
        _check_space(dataset, directory)
        logger.info(f"license of {dataset.title}: {dataset.license}")
        logger.info(
            f"downloading {dataset.download_size / 1e6:,.0f} MB; the files take "
            f"{dataset.disk_size / 1e6:,.0f} MB"
        )
        for archive in dataset.archives:
            failures += _download(urls or archive.urls, archive, dataset, directory)
    missing = _missing(dataset, directory)
    if any(dataset.files[name].required for name in missing):
        not_found = f"not found: {', '.join(missing)}"
        if source is not None:
            raise DataError(not_found, where=str(source), hint=install.directory_hint(dataset))
        raise DataError(failures or not_found, hint=_MIRROR_HINT)
    present = [name for name in dataset.files if name not in missing]
    unverified = [name for name in present if not _is_comparable(name, dataset)]
    verified = [name for name in present if name not in unverified]
    return FetchResult(directory, verified, missing, failures if missing else [], unverified)


def _is_comparable(name: str, dataset: Dataset) -> bool:
    """Returns whether a checksum or a number of tokens of a file was published."""
    file = dataset.files[name]
    return file.sha256 is not None or file.tokens is not None


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


def _check_space(dataset: Dataset, directory: Path) -> None:
    """Raises DataError if the disk is too small for the archives and the files."""
    needed = dataset.download_size + dataset.disk_size
    with os_errors(TargetError, "cannot be read", where=directory, hint=TARGET_HINT):
        free = shutil.disk_usage(directory).free
    if free < needed:
        raise TargetError(
            f"{dataset.title} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            where=str(directory),
            hint=f"free disk space, or {TARGET_HINT}",
        )


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
            if not path.is_file() or not is_good(path, expected):
                raise TargetError(
                    f"{name} exists, and is not the file of {dataset.title}",
                    where=str(path),
                    hint="move it, or pass another directory (`--to`)",
                )
    return missing


def _create(directory: Path, names: Iterable[str]) -> None:
    """Creates the directory, and removes what a killed process left in it."""
    with os_errors(TargetError, "cannot be created", where=directory, hint=TARGET_HINT):
        directory.mkdir(parents=True, exist_ok=True)
    with os_errors(TargetError, "cannot be written", where=directory, hint=TARGET_HINT):
        remove_temporary_files(directory, "|".join(map(re.escape, names)))


def _download(
    urls: Sequence[str], archive: Archive, dataset: Dataset, directory: Path
) -> list[str]:
    """Downloads the missing files from the first mirrors that have them; returns the failures."""
    failures = []
    for url in urls:
        missing = _missing(dataset, directory)
        names = [name for name in archive.files if name in missing]
        if not names:
            break
        try:
            _download_from(url, archive, dataset, directory, names)
        except TargetError:
            raise
        except DataError as error:
            shown = url if url.isprintable() else repr(url)
            failures.append(f"{shown}: {error.what}")
    return failures


def _download_from(
    url: str, archive: Archive, dataset: Dataset, directory: Path, names: Sequence[str]
) -> None:
    """Downloads files from a folder (ends with "/") or an archive."""
    if not url.endswith("/"):
        # Each mirror has a separate partial file, so that a later call can resume it.
        part = directory / f"archive-{hashlib.sha256(os.fsencode(url)).hexdigest()[:12]}.part"
        target = install.Target(dataset, directory)
        unpack: Callable[[IO[bytes]], None] = partial(
            install.unpack, archive=archive, target=target, names=names
        )
        download(url, part, max(MAX_ARCHIVE_SIZE, dataset.download_size), unpack)
        return
    for name in names:
        expected = dataset.files[name]
        if expected.size is None or expected.sha256 is None:
            raise DataError(f"the checksum of {name} is unknown; pass the URL of the archive")
        part = directory / f"{name}.download.part"
        copy: Callable[[IO[bytes]], None] = partial(
            install.copy, path=directory / name, expected=expected
        )
        download(url + name, part, expected.size, copy)
