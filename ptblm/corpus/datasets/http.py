"""Downloads one address to one file, going on where a cut connection left it."""

import http.client
import signal
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tqdm import tqdm

from ptblm import __version__
from ptblm.errors import DataError

_BLOCK = 64 * 1024
_BUSY = (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE)


@dataclass(frozen=True)
class Patience:
    """When a download is given up.

    Attributes:
        silence: seconds without a byte.
        window: seconds over which `slowest` is measured; also the longest that a busy server
            may ask to wait.
        slowest: bytes per second; a server that trickles for ever is slower.
        attempts: connections in a row that bring nothing new.
        pause: seconds before the next attempt, if the server does not say.
        largest: bytes; no corpus that is fetched here is larger.
    """

    silence: float = 30.0
    window: float = 60.0
    slowest: float = 1000.0
    attempts: int = 4
    pause: float = 1.0
    largest: int = 2**29


def download(url: str, path: Path, patience: Patience = Patience()) -> None:
    """Fetches `url` into `path`; what is in `path` already is taken for the download's start.

    A server that can't continue sends all of it anew. Whatever happens, what was received stays
    in `path` for the next attempt; whoever uses it checks it.

    Raises:
        DataError: if the address is not to be had.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: only http and https are fetched", hint="--from for local files")
    failures = 0
    while True:
        before = _size(path)
        try:
            _receive(url, path, patience)
            return
        except urllib.error.HTTPError as error:
            if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                path.unlink()  # what is there is no part of what the server has
                continue
            failures += 1
            wait = _seconds_asked(error, patience.pause)
            if error.code not in _BUSY or failures >= patience.attempts or wait > patience.window:
                raise DataError(f"{url}: {error.code} {error.reason}") from None
            print(f"note: {url}: {error.reason}; again in {wait:.0f} s", file=sys.stderr)
            time.sleep(wait)
        except (OSError, http.client.HTTPException, ValueError) as error:
            # A byte or two is no progress: such a server would be asked for ever.
            enough = patience.slowest * patience.silence
            failures = 0 if _size(path) - before >= enough else failures + 1
            if failures >= patience.attempts or not _may_pass(error):
                reason = getattr(error, "reason", None) or error
                raise DataError(f"{url}: {reason}") from None
            time.sleep(patience.pause)


def _seconds_asked(error: urllib.error.HTTPError, otherwise: float) -> float:
    """How long a busy server asks to wait, in seconds or until a date (RFC 9110, 10.2.3)."""
    asked = str(error.headers.get("Retry-After", ""))
    with suppress(ValueError, OverflowError):
        if asked.strip().isdecimal():
            return float(asked)
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    return otherwise


def _receive(url: str, path: Path, patience: Patience) -> None:
    """Receives what is missing of `url`; raises ConnectionError if it ends too early."""
    have = _size(path)
    headers = {"User-Agent": f"ptblm/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the opener is web only
    with _deadline(patience.window):
        response = _opener().open(request, timeout=patience.silence)
    with response:
        continues = response.status == http.client.PARTIAL_CONTENT and str(
            response.headers.get("Content-Range", "")
        ).startswith(f"bytes {have}-")
        if response.status == http.client.PARTIAL_CONTENT and not continues:
            path.unlink(missing_ok=True)
            raise ConnectionError("the server sent another part than it was asked for")
        have = have if continues else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        if total is not None and total > patience.largest:
            raise DataError(f"{url}: {total:,} bytes is more than any corpus fetched here")
        with path.open("ab" if continues else "wb") as file, _bar(url, have, total) as bar:
            _copy(response, file, bar, have, patience)
    if total is not None and _size(path) < total:
        raise ConnectionError(f"the connection was cut after {_size(path):,} of {total:,} bytes")


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Raises TimeoutError when the block takes longer: a header may come byte by byte.

    Each byte is in time for the socket's own timeout, so only a clock ends that. (The system's
    alarm is for the main thread; elsewhere there is no deadline.)
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def give_up(_number: int, _frame: object) -> NoReturn:
        raise TimeoutError(f"no answer within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _copy(response: Any, file: Any, bar: "tqdm[NoReturn]", have: int, patience: Patience) -> None:
    window_start, window_bytes = time.monotonic(), 0
    # read1 returns what has come; read would wait for a whole block, however slowly it comes.
    while block := response.read1(_BLOCK):
        file.write(block)
        bar.update(len(block))
        have += len(block)
        window_bytes += len(block)
        if have > patience.largest:
            raise DataError(f"{response.url}: sends more bytes than any corpus fetched here has")
        elapsed = time.monotonic() - window_start
        if elapsed > patience.window:
            if window_bytes < patience.slowest * elapsed:
                rate = window_bytes / elapsed
                raise DataError(f"{response.url}: too slow, {rate:,.0f} bytes/s: given up")
            window_start, window_bytes = time.monotonic(), 0


def _opener() -> urllib.request.OpenerDirector:
    """Opens web addresses alone: a redirect to a file or to FTP finds no handler."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _may_pass(error: Exception) -> bool:
    """Whether trying again may help; a name that does not exist won't appear in a second."""
    reason = getattr(error, "reason", error)
    return isinstance(reason, ConnectionError | TimeoutError | http.client.HTTPException)


def _bar(url: str, have: int, total: int | None) -> "tqdm[NoReturn]":
    return tqdm(
        desc=urlsplit(url).path.rsplit("/", 1)[-1],
        initial=have,
        total=total,
        unit="B",
        unit_scale=True,
        leave=False,
        file=sys.stderr,
        disable=not sys.stderr.isatty(),
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
