"""Downloads a known corpus, or copies it from this machine, and verifies each file.

A file is renamed to its final name only after its SHA-256 is verified, so an interruption leaves
either the previous file or the verified one.
"""

import errno
import hashlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ptblm import __version__
from ptblm.corpus.containers import SIGNATURE_SIZE, container_of, is_compressed_text
from ptblm.corpus.datasets.archive import open_archive
from ptblm.corpus.datasets.base import DataFile, Dataset
from ptblm.errors import DataError
from ptblm.files import replacing
from ptblm.progress_bar import ProgressBar

ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt; doubled for each later one
TIMEOUT = 30.0  # seconds without data
MAX_SIZE = 2**32  # bytes

_HINT = "Offline or behind a proxy, pass a mirror (`--url`) or a local archive (`--from`)"
_SOURCE_HINT = (
    "unpack it, then pass the directory of the files, or pass the public simple-examples.tgz"
)


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
        DataError: if a required file could not be obtained; verified files are kept.
    """
    directory = directory or dataset.directory
    failures: list[str] = []
    try:
        if _missing(dataset, directory):
            if source is not None and not source.exists():
                raise DataError(
                    f"--from {source}: no such file or directory", hint="check the path"
                )
            directory.mkdir(parents=True, exist_ok=True)
            for origin in [source] if source else urls or dataset.urls:
                if not _missing(dataset, directory):
                    break
                try:
                    if isinstance(origin, Path):
                        _copy_local(origin, dataset, directory)
                    else:
                        _fetch_url(origin, dataset, directory)
                except DataError as error:
                    failures.append(f"{origin}: {error.what}")
        missing = _missing(dataset, directory)
    except OSError as error:
        raise DataError(
            f"cannot be read or written: {error.strerror or error}",
            where=str(error.filename or directory),
            hint="check free space and permissions, or pass another directory (`--to`)",
        ) from None
    if any(dataset.files[name].required for name in missing):
        what = failures or [f"not found: {', '.join(missing)}"]
        hint = _HINT if source is None else _SOURCE_HINT
        raise DataError(what, where=str(source or directory), hint=hint)
    verified = [name for name in dataset.files if name not in missing]
    return FetchResult(directory, verified, missing, failures if missing else [])


def _fetch_url(url: str, dataset: Dataset, directory: Path) -> None:
    """Downloads the missing files from a folder (ends with "/") or an archive."""
    if not url.endswith("/"):
        # Each mirror has a separate partial file, so that a later call can resume it.
        part = directory / f"archive-{hashlib.sha256(url.encode()).hexdigest()[:12]}"
        _download(url, part, lambda file: _unpack(file, dataset, directory))
        return
    for name in _missing(dataset, directory):

        def install(file: IO[bytes], name: str = name) -> None:
            _install(file, directory / name, dataset.files[name])

        _download(url + name, directory / f"{name}.download", install)


def _download(url: str, target: Path, install: Callable[[IO[bytes]], None]) -> None:
    """Downloads to a `.part` file and installs it. If a resumed file is bad, restarts once."""
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    while True:
        _receive(url, part)
        try:
            with part.open("rb") as file:
                install(file)
        except DataError:
            part.unlink(missing_ok=True)
            if not resumed:
                raise
            resumed = False
        else:
            part.unlink(missing_ok=True)
            return


def _receive(url: str, part: Path) -> None:
    """Downloads a URL and resumes after the bytes that `part` already contains.

    Raises:
        DataError: if the server rejects the request, or `ATTEMPTS` consecutive attempts fail.
    """
    attempt = 1
    while True:
        size = _size(part)
        try:
            return _receive_once(url, part, size)
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and size:
                return None  # the file is complete or is a different file
            temporary = error.code == http.client.TOO_MANY_REQUESTS or error.code >= 500
            problem = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and (error.filename or error.errno == errno.ENOSPC):
                raise  # caused by the disk, not by the connection
            temporary, problem = True, str(getattr(error, "reason", error) or error)
        attempt = 1 if _size(part) - size > 2**16 else attempt + 1  # progress counts as success
        if attempt > ATTEMPTS or not temporary:
            raise DataError(problem)
        time.sleep(PAUSE * 2 ** (attempt - 1))


def _receive_once(url: str, part: Path, size: int) -> None:
    headers = {"User-Agent": f"ptblm/{__version__}", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    _check_scheme(url)
    if part.is_symlink():
        part.unlink()  # nothing is written through a link
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked
    opener = urllib.request.build_opener(_CheckedRedirects)
    with opener.open(request, timeout=TIMEOUT) as response:
        resumes = str(response.headers.get("Content-Range", "")).startswith(f"bytes {size}-")
        start = size if resumes else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with (
            part.open("ab" if resumes else "wb") as file,
            ProgressBar(total, start) as bar,
        ):
            while block := response.read1(2**16):
                file.write(block)
                file.flush()
                bar.show(file.tell(), _progress(url, file.tell(), total, bar.per_second))
                if file.tell() > MAX_SIZE:
                    raise DataError(f"more than {MAX_SIZE:,} bytes")
    if total is not None and _size(part) < total:
        raise ConnectionError(f"connection lost after {_size(part):,} of {total:,} bytes")


def _progress(url: str, done: int, total: int | None, per_second: float) -> list[str]:
    """Returns the text of the progress bar, in order of importance."""
    of_total = "" if total is None else f" of {total / 1e6:.1f}"
    amount = f"{done / 1e6:.1f}{of_total} MB"
    return [url.rsplit("/", 1)[-1], amount, f"{per_second / 1e6:.1f} MB/s"]


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https are supported; use --from for local files")


def _copy_local(source: Path, dataset: Dataset, directory: Path) -> None:
    """Copies the missing files from a local archive or directory."""
    if not source.is_dir():
        with source.open("rb") as file:
            _unpack(file, dataset, directory)
        return
    for name in _missing(dataset, directory):
        for folder in ("", PurePosixPath(dataset.folder).name, dataset.folder):
            path = source / folder / name
            if path.is_file():
                with path.open("rb") as file:
                    _install(file, directory / name, dataset.files[name])
                break


def _unpack(file: IO[bytes], dataset: Dataset, directory: Path) -> None:
    """Extracts the missing files from an archive, identified by name and size."""
    missing = _missing(dataset, directory)
    kind = container_of(file.read(SIGNATURE_SIZE))
    file.seek(0)
    if kind != "tar" and not is_compressed_text(kind):
        prefix = "" if kind is None else f"a {kind} file, "
        raise DataError(f"{prefix}not a tar archive")
    with open_archive(file) as archive:
        found = {
            name: member
            for member in reversed(archive.getmembers())
            if (name := PurePosixPath(member.name).name) in missing
            and member.isreg()
            and member.size == dataset.files[name].size
        }
        if not found:
            raise DataError(f"contains none of {', '.join(missing)} with the expected size")
        for name, member in found.items():
            content = archive.extractfile(member)
            if content is not None:
                _install(content, directory / name, dataset.files[name])


def _install(file: IO[bytes], path: Path, expected: DataFile) -> None:
    """Writes a file under its final name if its size and SHA-256 are as expected."""

    def check(temporary: Path) -> None:
        if not _is_good(temporary, expected):
            raise DataError(
                f"{path.name} has wrong content: {_size(temporary):,} bytes with sha256 "
                f"{_sha256(temporary)[:12]}..., expected {expected.size:,} with "
                f"{expected.sha256[:12]}..."
            )

    with replacing(path, check) as target:
        shutil.copyfileobj(file, target)


def _missing(dataset: Dataset, directory: Path) -> list[str]:
    return [name for name, file in dataset.files.items() if not _is_good(directory / name, file)]


def _is_good(path: Path, expected: DataFile) -> bool:
    return path.is_file() and _size(path) == expected.size and _sha256(path) == expected.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
