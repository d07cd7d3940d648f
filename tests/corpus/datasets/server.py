"""A real HTTP server on loopback that behaves, breaks off and dawdles, as a test wants it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ptblm.corpus.datasets.http import Patience

IMPATIENT = Patience(silence=2.0, window=0.3, slowest=5000.0, attempts=3, pause=0.01)
Behaviour = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as the server's `behaviour` says; remembers the ranges that were asked for."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        data = self.server.pages.get(self.path)
        if data is None:
            self.send_error(404)
        else:
            self.server.behaviour(self, data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


class Server(ThreadingHTTPServer):
    """Serves `pages`, by path, on a free port."""

    daemon_threads = True

    def __init__(self, pages: dict[str, bytes], behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages
        self.behaviour = behaviour
        self.ranges: list[str | None] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def serving(pages: dict[str, bytes], behaviour: Behaviour) -> Iterator[Server]:
    server = Server(pages, behaviour)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start_of_answer(handler: Handler, data: bytes, *, ranges: bool) -> bytes:
    """Sends the headers, and returns the bytes that are to follow."""
    asked = handler.headers.get("Range")
    if asked and ranges:
        first = int(asked.removeprefix("bytes=").removesuffix("-"))
        if first >= len(data):
            handler.send_error(416)
            return b""
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        data = data[first:]
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    return data


def whole(handler: Handler, data: bytes) -> None:
    handler.wfile.write(start_of_answer(handler, data, ranges=True))


def cut_short(handler: Handler, data: bytes) -> None:
    """Sends a third of what is missing, then hangs up."""
    rest = start_of_answer(handler, data, ranges=True)
    handler.wfile.write(rest[: max(1, len(rest) // 3)])


def cut_short_without_ranges(handler: Handler, data: bytes) -> None:
    rest = start_of_answer(handler, data, ranges=False)
    if len(handler.server.ranges) < 2:
        rest = rest[: len(rest) // 2]
    handler.wfile.write(rest)


def trickle(handler: Handler, data: bytes) -> None:
    for byte in start_of_answer(handler, data, ranges=True):
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:
            return
        time.sleep(0.01)


def silence(handler: Handler, data: bytes) -> None:
    start_of_answer(handler, data, ranges=True)
    time.sleep(5)


def busy(code: int, retry_after: str | None, times: int) -> Behaviour:
    """Refuses so many times, then serves."""

    def behaviour(handler: Handler, data: bytes) -> None:
        if len(handler.server.ranges) > times:
            whole(handler, data)
            return
        handler.send_response(code)
        if retry_after is not None:
            handler.send_header("Retry-After", retry_after)
        handler.end_headers()

    return behaviour
