"""An HTTP server on the loopback interface whose faults a test chooses."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behavior = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with the server's `behavior` and records the requested ranges."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        data = self.server.pages.get(self.path)
        if data is None:
            self.send_error(404)
        else:
            self.server.behavior(self, data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        pass


class Server(ThreadingHTTPServer):
    """Serves `pages`, by path, on a free port."""

    daemon_threads = True

    def __init__(self, pages: dict[str, bytes], behavior: Behavior) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages
        self.behavior = behavior
        self.ranges: list[str | None] = []

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def serving(pages: dict[str, bytes], behavior: Behavior) -> Iterator[Server]:
    server = Server(pages, behavior)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def start_of_answer(handler: Handler, data: bytes, *, ranges: bool) -> bytes:
    """Sends the headers and returns the bytes of the body."""
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
    """Sends a third of the missing bytes, then closes the connection."""
    rest = start_of_answer(handler, data, ranges=True)
    handler.wfile.write(rest[: max(1, len(rest) // 3)])


def cut_short_without_ranges(handler: Handler, data: bytes) -> None:
    rest = start_of_answer(handler, data, ranges=False)
    if len(handler.server.ranges) < 2:
        rest = rest[: len(rest) // 2]
    handler.wfile.write(rest)


def unavailable(times: int, code: int = 503) -> Behavior:
    """Answers the first requests with an error."""

    def behavior(handler: Handler, data: bytes) -> None:
        if len(handler.server.ranges) <= times:
            handler.send_error(code)
        else:
            whole(handler, data)

    return behavior


def redirect(location: str) -> Behavior:
    def behavior(handler: Handler, _: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    return behavior


def answer(status: bytes, *headers: bytes) -> Behavior:
    """Sends a status line and headers as they are, and closes the connection."""

    def behavior(handler: Handler, _: bytes) -> None:
        handler.wfile.write(b"\r\n".join([status, *headers, b"", b""]))

    return behavior


def endless(start: bytes, piece: bytes, pause: float = 0.0) -> Behavior:
    """Sends `start`, then `piece` until the client closes the connection."""

    def behavior(handler: Handler, _: bytes) -> None:
        handler.wfile.write(start)
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(piece)
                handler.wfile.flush()
                time.sleep(pause)

    return behavior
