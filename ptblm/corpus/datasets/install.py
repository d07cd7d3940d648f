"""Copies the files of a corpus from an archive or a directory to their place, and verifies them.

Contents are copied piece by piece, so memory does not grow with their size.
"""

import hashlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from ptblm.corpus.containers import SIGNATURE_SIZE, container_of
from ptblm.corpus.datasets import archive as archives
from ptblm.corpus.datasets.archive import Member, tar_members
from ptblm.corpus.datasets.base import Archive, DataFile, Dataset
from ptblm.corpus.datasets.download import TARGET_HINT, TargetError
from ptblm.corpus.datasets.verify import (
    WRONG_HINT,
    check_archive,
    check_file,
    count_tokens,
    pieces,
)
from ptblm.corpus.datasets.zip_archive import zip_members
from ptblm.errors import DataError
from ptblm.files import open_regular, os_errors, replacing

_SOURCE_HINT = "pass an archive, or a directory of the files"
_PIECE_SIZE = 2**18


class Target(NamedTuple):
    """Where the files of a corpus are installed.

    Attributes:
        dataset: the corpus.
        directory: the directory.
        create: creates the directory; called once files were found.
    """

    dataset: Dataset
    directory: Path
    create: Callable[[], None] = lambda: None


def directory_hint(dataset: Dataset) -> str:
    """Returns what to pass instead of a directory or an archive without the files."""
    names = ", ".join(archive.name for archive in dataset.archives)
    return f"pass the directory that contains these files, or the public {names}"


def unpack(file: IO[bytes], *, archive: Archive, target: Target, names: Sequence[str]) -> None:
    """Installs files from an archive, after it was read once without an error.

    Args:
        file: the archive, at its start.
        archive: what is known about it.
        target: the corpus and its place.
        names: names of the files to install. Those that the archive does not contain are skipped.

    Raises:
        TargetError: if a file cannot be written.
        DataError: if the archive is damaged, unsafe or a different one, or contains no such file.
    """
    dataset = target.dataset
    hint = f"{WRONG_HINT}, or pass the public {archive.name}"
    # A published checksum of the archive replaces checksums of its files.
    if archive.sha256 is not None and any(dataset.files[name].sha256 is None for name in names):
        check_archive(file, archive.sha256, hint)
    plan = _plan(_members(file, dataset), dataset, names)
    if not plan:
        raise DataError(
            f"contains none of {', '.join(names)} with the expected size",
            hint=f"pass the public {archive.name}, or unpack the archive and pass the directory "
            "of the files",
        )
    target.create()
    sizes, hashes = dict.fromkeys(names, 0), dict.fromkeys(names, "")
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_new_file(target.directory / name))
            for name in dict.fromkeys(name for name, _ in plan.values())
        }
        for index, member in enumerate(_members(file, dataset)):
            if index in plan:
                name, offset = plan[index]
                size, hashes[name] = _write(files[name], member.content, offset)
                sizes[name] += size
        for name in files:
            check_file(name, dataset.files[name], sizes[name], hashes[name], hint)


def copy(file: IO[bytes], path: Path, expected: DataFile, where: str | None = None) -> None:
    """Installs a file under its final name.

    Raises:
        TargetError: if it cannot be written.
        DataError: if it has other content than expected.
    """
    with _new_file(path) as target:
        size, sha256 = _write(target, pieces(file), 0)
        check_file(path.name, expected, size, sha256, WRONG_HINT, where)


def from_local(source: Path, target: Target, names: Sequence[str]) -> None:
    """Installs files from a local archive or directory.

    A directory can contain the files, the unpacked archives, or the archives.

    Args:
        source: the archive or directory.
        target: the corpus and its place.
        names: names of the files to install. Those that are not found are skipped.

    Raises:
        DataError: if the source cannot be read, or its content is not the expected one.
    """
    with os_errors(DataError, "cannot be read", where=source):
        try:
            mode = source.stat().st_mode
        except FileNotFoundError:
            raise DataError(
                f"--from {source}: no such file or directory", hint="check the path"
            ) from None
    if stat.S_ISDIR(mode):
        _from_directory(source, target, names)
    elif stat.S_ISREG(mode):
        _from_archive(source, target, names)
    else:
        raise DataError("cannot be read: not a regular file", where=str(source), hint=_SOURCE_HINT)


def _from_archive(source: Path, target: Target, names: Sequence[str]) -> None:
    """Installs the files of the public archive that has the name of a local file, or the first."""
    known = target.dataset.archives
    archive = next((each for each in known if each.name == source.name), known[0])
    names = [name for name in archive.files if name in names]
    if not names:
        return
    try:
        with os_errors(DataError, "cannot be read", where=source), open_regular(source) as file:
            unpack(file, archive=archive, target=target, names=names)
    except TargetError:
        raise
    except DataError as error:
        raise DataError(error.what, where=str(source), hint=error.hint) from None


def _from_directory(source: Path, target: Target, names: Sequence[str]) -> None:
    dataset = target.dataset
    left = list(names)
    for name in names:
        expected = dataset.files[name]
        parts = _find_parts(source, dataset, name)
        if not parts:
            continue
        left.remove(name)
        target.create()
        _copy_parts(parts, target.directory / name, expected)
    for archive in dataset.archives:
        with os_errors(DataError, "cannot be read", where=source / archive.name):
            is_here = (source / archive.name).is_file()
        if is_here and any(name in left for name in archive.files):
            _from_archive(source / archive.name, target, left)


def _copy_parts(parts: Sequence[Path], path: Path, expected: DataFile) -> None:
    """Installs the joined content of files."""
    if expected.sha256 is None and expected.tokens is not None:
        tokens = count_tokens(_joined(parts))
        if tokens != expected.tokens:
            raise DataError(
                f"{path.name} has wrong content: {tokens:,} tokens, expected {expected.tokens:,}",
                where=str(parts[0]),
                hint=WRONG_HINT,
            )
    with _new_file(path) as target:
        size, sha256 = _write(target, _joined(parts), 0)
        check_file(path.name, expected, size, sha256, WRONG_HINT, str(parts[0]))


def _joined(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with os_errors(DataError, "cannot be read", where=path), open_regular(path) as file:
            yield from iter(lambda: file.read(_PIECE_SIZE), b"")


def _find_parts(source: Path, dataset: Dataset, name: str) -> list[Path]:
    """Returns the file of a corpus, or the files that are joined to it."""
    expected = dataset.files[name]
    for folder in ("", Path(dataset.folder).name, dataset.folder):
        for pattern, count in ((name, 1), (expected.members or name, expected.parts)):
            with os_errors(DataError, "cannot be read", where=source / folder):
                found = sorted(path for path in (source / folder).glob(pattern) if path.is_file())
            if len(found) == count:
                return found
    return []


def _members(file: IO[bytes], dataset: Dataset) -> Iterator[Member]:
    """Yields the files of a tar or zip archive."""
    file.seek(0)
    kind = container_of(file.read(SIGNATURE_SIZE))
    file.seek(0)
    max_size = max(archives.MAX_SIZE, 2 * dataset.disk_size)
    members = zip_members if kind == "zip" else tar_members
    with os_errors(DataError, "cannot be read"):
        yield from members(file, max_size)


def _plan(
    members: Iterable[Member], dataset: Dataset, names: Sequence[str]
) -> dict[int, tuple[str, int]]:
    """Returns the name and the offset at which each wanted member of an archive is written.

    Raises:
        DataError: if parts of a file are missing.
    """
    found: dict[str, list[tuple[str, int, int]]] = {name: [] for name in names}
    for index, (path, size, _) in enumerate(members):
        for name in names:
            file = dataset.files[name]
            is_wanted = path.match(file.members or name) and not path.name.startswith(".")
            if is_wanted and (file.parts > 1 or file.size in (None, size)):
                found[name].append((str(path), index, size))
    plan = {}
    for name, parts in found.items():
        expected = dataset.files[name].parts
        if expected > 1 and len(parts) not in (0, expected):
            raise DataError(f"contains {len(parts)} of the {expected} parts of {name}")
        offset = 0
        for _, index, size in sorted(parts) if expected > 1 else parts[:1]:
            plan[index] = name, offset
            offset += size
    return plan


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a temporary file that gets its name when the block succeeds; see `replacing`."""
    with (
        os_errors(TargetError, "cannot be written", where=path, hint=TARGET_HINT),
        replacing(path) as file,
    ):
        yield file


def _write(file: IO[bytes], content: Iterable[bytes | memoryview], offset: int) -> tuple[int, str]:
    """Writes content at an offset; returns their size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    file.seek(offset)
    for piece in content:
        file.write(piece)
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
