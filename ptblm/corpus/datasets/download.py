"""Downloads a file over HTTP to a partial file, which a later call resumes.

Neither the server nor the other users of the target directory are trusted.
"""

import contextlib
import errno
import http
import http.client
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from ptblm import __version__
from ptblm.errors import DataError
from ptblm.files import belongs_to_user, has_one_name, os_errors
from ptblm.progress_bar import ProgressBar

ATTEMPTS = 3
PAUSE = 1.0  # seconds before the second attempt; doubled for each later one
TIMEOUT = 30.0  # seconds without data
TARGET_HINT = "pass another directory (`--to`)"
_MAX_SHOWN = 200  # characters of a reason
# What opening a link, a pipe, a directory or a file of another user raises.
_ERRORS_OF_OTHER_FILES = {errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EACCES}


class TargetError(DataError):
    """The target directory cannot be used, so another mirror does not help."""


def download(url: str, part: Path, max_size: int, install: Callable[[IO[bytes]], None]) -> None:
    """Downloads to the file `part`, installs its content and removes it.

    If `part` exists, the download continues after its bytes. If the result is bad, the download
    restarts once.

    Args:
        url: the address.
        part: the partial file.
        max_size: upper bound of the size in bytes.
        install: receives the complete file, at its start; raises DataError if it is bad.

    Raises:
        TargetError: if the file cannot be written; it is kept.
        DataError: if the download fails, and the file is kept; or the file is bad, and is removed.
    """
    check_url(url)
    with _writing(part), _partial_file(part) as file:
        resumed = _size(file) > 0
        while True:
            _receive(url, part, file, max_size)
            file.seek(0)
            try:
                install(file)
            except TargetError:
                raise
            except DataError:
                file.truncate(0)
                if not resumed:
                    raise
                resumed = False
            else:
                file.truncate(0)
                return


@contextlib.contextmanager
def _partial_file(path: Path) -> Iterator[IO[bytes]]:
    """Opens a partial file for reading and writing. It is removed if it is empty at the end.

    Raises:
        OSError: if the file cannot be opened, created or removed.
    """
    file = _open_partial(path)
    is_empty = False
    try:
        yield file
    finally:
        # If the disk is full, the file cannot be closed without an error, which has been reported.
        with contextlib.suppress(OSError), file:
            is_empty = _size(file) == 0
        if is_empty:
            path.unlink(missing_ok=True)


def _open_partial(path: Path) -> IO[bytes]:
    """Opens a partial file, and creates it if necessary.

    Anything else of this name, such as a link, a named pipe or a file that others can write to
    through another name, is removed and never written to.
    """
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    except OSError as error:
        if error.errno not in _ERRORS_OF_OTHER_FILES:
            raise
    else:
        is_own = False
        try:
            status = os.fstat(descriptor)
            is_own = belongs_to_user(status) and has_one_name(status)
        finally:
            if not is_own:
                os.close(descriptor)
        if is_own:
            return os.fdopen(descriptor, "r+b")
    if path.is_dir() and not path.is_symlink():
        raise TargetError(
            "a directory has the name of a partial download", where=str(path), hint="remove it"
        )
    path.unlink(missing_ok=True)
    return os.fdopen(os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666), "r+b")


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _receive(url: str, part: Path, file: IO[bytes], max_size: int) -> None:
    """Downloads a URL and resumes after the bytes that `file` already contains.

    Raises:
        DataError: if the server rejects the request, or `ATTEMPTS` consecutive attempts fail.
    """
    attempt = 1
    while True:
        size = _size(file)
        try:
            return _receive_once(url, part, file, max_size)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and size:
                return None  # the file is complete or is a different file
            is_temporary = error.code == http.HTTPStatus.TOO_MANY_REQUESTS or error.code >= 500
            problem = _title(error.code)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, OSError) and reason.errno in (errno.EMFILE, errno.ENFILE):
                raise reason from None
            is_temporary = isinstance(error, OSError | http.client.IncompleteRead)
            text = reason.strerror if isinstance(reason, OSError) else None
            problem = _shown(str(text or reason) or type(error).__name__)
        attempt = 1 if _size(file) - size > 2**16 else attempt + 1  # progress counts as success
        if attempt > ATTEMPTS or not is_temporary:
            raise DataError(problem)
        time.sleep(PAUSE * 2 ** (attempt - 1))


def _receive_once(url: str, part: Path, file: IO[bytes], max_size: int) -> None:
    size = _size(file)
    headers = {"User-Agent": f"ptblm/{__version__}", "Accept-Encoding": "identity"}
    if size:
        headers["Range"] = f"bytes={size}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme is checked
    opener = urllib.request.build_opener(_CheckedRedirects, _Handler, _SecureHandler)
    with opener.open(request, timeout=TIMEOUT) as response:
        resumes = str(response.headers.get("Content-Range", "")).startswith(f"bytes {size}-")
        start = size if resumes else 0
        length = _content_length(response.headers.get("Content-Length"))
        total = None if length is None else start + length
        if total is not None and total > max_size:
            raise DataError(f"the file is too large: more than {max_size:,} bytes")
        with _writing(part):
            file.truncate(file.seek(start))
        with ProgressBar(total, start) as bar:
            while block := response.read1(2**16):
                with _writing(part):
                    file.write(block)
                    file.flush()
                bar.show(file.tell(), _progress(url, file.tell(), total, bar.per_second))
                if file.tell() > max_size:
                    file.truncate(0)
                    raise DataError(f"the file is too large: more than {max_size:,} bytes")
    if total is not None and file.tell() < total:
        raise ConnectionError(f"connection lost after {file.tell():,} of {total:,} bytes")


def _writing(part: Path) -> contextlib.AbstractContextManager[None]:
    """Separates the errors of the disk from those of the connection."""
    return os_errors(TargetError, "cannot be written", where=part, hint=TARGET_HINT)


def _content_length(text: str | None) -> int | None:
    if text is not None and not (text.isascii() and text.isdigit() and len(text) < 20):
        raise DataError(f"the server sent an invalid Content-Length: {_shown(text)}")
    return None if text is None else int(text)


def _title(code: int) -> str:
    """Returns a status with its standard phrase: the phrase of a server can contain anything."""
    try:
        title = f"{code} {http.HTTPStatus(code).phrase}"
    except ValueError:
        title = f"HTTP status {code}"
    return f"{title}, a redirect that cannot be followed" if 300 <= code < 400 else title


def _shown(text: str) -> str:
    """Returns a short text on one line."""
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _progress(url: str, done: int, total: int | None, per_second: float) -> list[str]:
    """Returns the text of the progress bar, in order of importance."""
    of_total = "" if total is None else f" of {total / 1e6:.1f}"
    amount = f"{done / 1e6:.1f}{of_total} MB"
    return [url.rsplit("/", 1)[-1], amount, f"{per_second / 1e6:.1f} MB/s"]


def check_url(url: str) -> None:
    """Raises DataError for other addresses than http and https, such as those of local files."""
    if not url.startswith(("http://", "https://")):
        raise DataError(
            f"{_shown(url)}: only http and https are supported",
            hint="pass another address, or use --from for a local archive or directory",
        )


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        fp.close()  # the caller would read its whole body
        check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Deadline(http.client.HTTPConnection):
    """Limits the time until a response begins: the timeout of a socket restarts with each byte."""

    def getresponse(self) -> http.client.HTTPResponse:
        timer = threading.Timer(TIMEOUT, _shut_down, [self.sock])
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()


class _SecureDeadline(_Deadline, http.client.HTTPSConnection):
    pass


class _Handler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_Deadline, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_SecureDeadline, req)


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
