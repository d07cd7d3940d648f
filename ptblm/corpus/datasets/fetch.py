"""Fetches the Penn Treebank: from mirrors in turn or from this machine, verified either way.

A file takes its good name only once its checksum is right, so whatever interrupts this leaves
either the file that was there or the verified one.
"""

import contextlib
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

from ptblm.corpus.datasets.archive import find_members, open_archive, open_member
from ptblm.corpus.datasets.http import Patience, download
from ptblm.corpus.datasets.ptb import FILES
from ptblm.errors import DataError, UsageError
from ptblm.files import TEMPORARY_SUFFIX, replacing
from ptblm.lock import TakenError, locked

Files = Mapping[str, tuple[int, str]]

_SOURCES = "another --url, or --from with an archive or a directory that you have"

# Where the files lie in a directory that someone has, the public archive's own layout included.
_FOLDERS = (".", "data", "simple-examples/data")


def fetch_ptb(
    directory: Path,
    *,
    mirrors: Sequence[str] = (),
    source: Path | None = None,
    files: Files = FILES,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> list[str]:
    """Makes `directory` hold the verified files, and returns what there is to say.

    Args:
        directory: where they go; good files in it are left alone.
        mirrors: addresses to try in turn; one that ends in "/" is a folder of files, any other
            an archive.
        source: an archive or a directory of this machine to take them from instead.
        files: bytes and sha256 of each file.
        patience: when a download is given up.

    Raises:
        DataError: if the word files are not all there in the end; what could be verified is
            kept. Missing character files alone are a warning.
        UsageError: if another process is at it in the same directory.
    """
    try:
        if not _missing(directory, files):
            return [f"{directory} already holds all {len(files)} files, verified"]
        if source is not None and not source.exists():
            raise DataError(f"--from {source}: no such file or directory", hint=_SOURCES)
        directory.mkdir(parents=True, exist_ok=True)
        with locked(directory):
            failures = _fetch(directory, mirrors, source, files, patience)
        missing = _missing(directory, files)
    except TakenError as error:
        raise UsageError(
            f"the directory is {error}", where=str(directory), hint="wait until it ends"
        ) from None
    except OSError as error:
        raise DataError(
            f"can't be read or written: {error.strerror or error}",
            where=str(error.filename or directory),
            hint="make room or give access there, or another --to",
        ) from None
    if any("char" not in name for name in missing):
        raise DataError(
            "\n".join(failures) or f"not found: {', '.join(missing)}",
            where=str(directory),
            hint=_SOURCES,
        )
    verified = [name for name in files if name not in missing]
    lines = [f"{directory} holds {len(verified)} files, verified: {', '.join(verified)}"]
    for problem in failures if missing else []:
        print(f"warning: {problem}", file=sys.stderr)
    if missing:
        print(f"warning: without {', '.join(missing)}", file=sys.stderr)
    return lines


def _fetch(
    directory: Path,
    mirrors: Iterable[str],
    source: Path | None,
    files: Files,
    patience: Patience,
) -> list[str]:
    """Tries the sources until nothing is missing; returns why those before the last failed."""
    if source is not None:
        _take_local(source, directory, files)
        return []
    failures = []
    for url in mirrors:
        missing = _missing(directory, files)
        if not missing:
            break
        try:
            if url.endswith("/"):
                for name in missing:
                    _download_file(url + name, directory / name, files[name], patience)
            else:
                _download_archive(url, directory, files, patience)
        except DataError as error:
            failures.append(error.what)
    return failures


def _download_file(url: str, path: Path, expected: tuple[int, str], patience: Patience) -> None:
    part = path.with_name(f"{path.name}.download{TEMPORARY_SUFFIX}")

    def install() -> None:
        with part.open("rb") as file:
            _install(file, path, expected)

    _download_and_install(url, part, install, patience)


def _download_archive(url: str, directory: Path, files: Files, patience: Patience) -> None:
    # The address is part of the name: another mirror's half is no half of this one's.
    digest = hashlib.sha256(url.encode()).hexdigest()[:12]
    part = directory / f"archive-{digest}{TEMPORARY_SUFFIX}"
    _download_and_install(url, part, lambda: _take_archive(part, directory, files), patience)


def _download_and_install(
    url: str, part: Path, install: Callable[[], None], patience: Patience
) -> None:
    """Downloads to `part` and installs from it; a bad result of a continued one is tried anew."""
    continued = part.exists()
    if continued:  # it may be whole, of an attempt that ended just before its installation
        with contextlib.suppress(DataError):
            install()
            part.unlink()
            return
    while True:
        download(url, part, patience)
        try:
            install()
        except DataError as error:
            part.unlink(missing_ok=True)
            if continued:
                continued = False
                continue
            raise DataError(f"{url}: {error.what}") from None
        part.unlink()
        return


def _take_local(source: Path, directory: Path, files: Files) -> None:
    """Takes the files from an archive or a directory of this machine."""
    if not source.is_dir():
        _take_archive(source, directory, files)
        return
    for name in _missing(directory, files):
        for folder in _FOLDERS:
            candidate = source / folder / name
            if candidate.is_file():
                with candidate.open("rb") as file:
                    _install(file, directory / name, files[name])
                break


def _take_archive(path: Path, directory: Path, files: Files) -> None:
    """Takes the missing files out of an archive."""
    sizes = {name: size for name, (size, _) in files.items()}
    with open_archive(path) as archive:
        members = find_members(archive, sizes)
        missing = _missing(directory, files)
        if not any(name in members for name in missing):
            raise DataError(f"holds none of {', '.join(missing)} in its right size")
        for name in missing:
            if name in members:
                with open_member(archive, members[name]) as file:
                    _install(file, directory / name, files[name])


def _install(file: IO[bytes], path: Path, expected: tuple[int, str]) -> None:
    """Writes the file's bytes under `path` if they are the expected ones.

    Raises:
        DataError: if they are others; `path` is as before.
    """

    def check(temporary: Path) -> None:
        if not _is_good(temporary, expected):
            size, sha256 = temporary.stat().st_size, _sha256(temporary)
            raise DataError(
                f"{path.name} has the wrong bytes: {size:,} of sha256 {sha256[:12]}..., "
                f"expected {expected[0]:,} of {expected[1][:12]}..."
            )

    with replacing(path, check) as target:
        shutil.copyfileobj(file, target)


def _missing(directory: Path, files: Files) -> list[str]:
    return [name for name, expected in files.items() if not _is_good(directory / name, expected)]


def _is_good(path: Path, expected: tuple[int, str]) -> bool:
    size, sha256 = expected
    return path.is_file() and path.stat().st_size == size and _sha256(path) == sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
