"""Fetching: a real HTTP server on loopback that behaves, breaks off, lies and dawdles."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ptblm.corpus.fetch_ptb import Files, fetch_ptb
from ptblm.corpus.http import Patience, download
from ptblm.errors import DataError, UsageError
from ptblm.lock import locked
from tests.conftest import plain_environment

CONTENT = {
    "ptb.train.txt": b" the cat \n" * 9000,
    "ptb.valid.txt": b" the dog \n" * 50,
    "ptb.test.txt": b" a cat \n" * 60,
    "ptb.char.train.txt": b" t h e \n" * 30,
}
FILES: Files = {
    name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()
}
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


def make_archive(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PUBLIC_LAYOUT = {f"./simple-examples/data/{name}": data for name, data in CONTENT.items()}
ARCHIVE = make_archive({"./simple-examples/data/README": b"free for research", **PUBLIC_LAYOUT})


def assert_good(directory: Path) -> None:
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == CONTENT


def test_an_archive_is_fetched_whole(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        (line,) = fetch_ptb(tmp_path / "ptb", mirrors=[server.url("/a.tgz")], files=FILES)
        assert "4 files, verified" in line
        assert_good(tmp_path / "ptb")
        # What is good is left alone, and nothing is asked for.
        stamp = (tmp_path / "ptb" / "ptb.train.txt").stat().st_mtime_ns
        asked = len(server.ranges)
        (line,) = fetch_ptb(tmp_path / "ptb", mirrors=[server.url("/a.tgz")], files=FILES)
        assert "already" in line
        assert len(server.ranges) == asked
        assert (tmp_path / "ptb" / "ptb.train.txt").stat().st_mtime_ns == stamp


def test_a_folder_of_files_is_fetched(tmp_path: Path) -> None:
    with serving({f"/data/{name}": data for name, data in CONTENT.items()}, whole) as server:
        fetch_ptb(tmp_path, mirrors=[server.url("/data/")], files=FILES)
    assert_good(tmp_path)


def test_a_cut_connection_is_continued(tmp_path: Path) -> None:
    data = CONTENT["ptb.train.txt"]
    with serving({"/f": data}, cut_short) as server:
        download(server.url("/f"), tmp_path / "f", replace(IMPATIENT, attempts=50))
        assert (tmp_path / "f").read_bytes() == data
        assert server.ranges[:2] == [None, f"bytes={len(data) // 3}-"]


def test_a_server_that_gives_a_byte_at_a_time_is_given_up(tmp_path: Path) -> None:
    def one_byte(handler: Handler, data: bytes) -> None:
        handler.wfile.write(start_of_answer(handler, data, ranges=True)[:1])

    with serving({"/f": CONTENT["ptb.train.txt"]}, one_byte) as server:
        with pytest.raises(DataError, match="was cut"):
            download(server.url("/f"), tmp_path / "f", IMPATIENT)
        assert len(server.ranges) == IMPATIENT.attempts


def test_a_server_without_ranges_sends_all_anew(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, cut_short_without_ranges) as server:
        fetch_ptb(tmp_path, mirrors=[server.url("/a.tgz")], files=FILES, patience=IMPATIENT)
    assert_good(tmp_path)


def test_another_process_continues_what_one_left(tmp_path: Path) -> None:
    def first_half_then_nothing(handler: Handler, data: bytes) -> None:
        if handler.headers.get("Range"):
            handler.send_error(503)
            return
        handler.wfile.write(start_of_answer(handler, data, ranges=True)[: len(data) // 2])

    with serving({"/a.tgz": ARCHIVE}, first_half_then_nothing) as server:
        url = server.url("/a.tgz")
        with pytest.raises(DataError, match="503"):
            fetch_ptb(tmp_path, mirrors=[url], files=FILES, patience=IMPATIENT)
        # No file has a good name yet.
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
        server.behaviour = whole
        fetch_ptb(tmp_path, mirrors=[url], files=FILES, patience=IMPATIENT)
        assert server.ranges[-1] == f"bytes={len(ARCHIVE) // 2}-"
    assert_good(tmp_path)


def test_a_bad_half_is_thrown_away_and_fetched_anew(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        url = server.url("/a.tgz")
        digest = hashlib.sha256(url.encode()).hexdigest()[:12]
        (tmp_path / f"archive-{digest}.part").write_bytes(b"x" * 100)
        fetch_ptb(tmp_path, mirrors=[url], files=FILES)
        assert server.ranges == ["bytes=100-", None]
        # So is a half that is longer than the whole.
        (tmp_path / "ptb.train.txt").unlink()
        (tmp_path / f"archive-{digest}.part").write_bytes(b"x" * (len(ARCHIVE) + 5))
        fetch_ptb(tmp_path, mirrors=[url], files=FILES)
    assert_good(tmp_path)


def test_wrong_bytes_never_get_a_good_name(tmp_path: Path) -> None:
    wrong = {name: data[:-1] + b"x" for name, data in CONTENT.items()}
    pages = {
        "/a.tgz": make_archive(wrong),
        "/b.tgz": b"<html>moved</html>",
        **{f"/data/{name}": data for name, data in wrong.items()},
    }
    with serving(pages, whole) as server:
        mirrors = [server.url(path) for path in ("/a.tgz", "/b.tgz", "/data/")]
        with pytest.raises(DataError) as caught:
            fetch_ptb(tmp_path, mirrors=mirrors, files=FILES)
    assert caught.value.what.count("wrong bytes") == 2
    assert "not a tar archive" in caught.value.what
    assert list(tmp_path.iterdir()) == []


def test_the_next_mirror_is_taken_after_a_404(tmp_path: Path) -> None:
    with serving({"/b.tgz": ARCHIVE}, whole) as server:
        mirrors = [server.url("/a.tgz"), server.url("/b.tgz")]
        fetch_ptb(tmp_path, mirrors=mirrors, files=FILES)
    assert_good(tmp_path)


def test_word_files_alone_are_enough_and_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {f"/data/{n}": data for n, data in CONTENT.items() if "char" not in n}
    with serving(words, whole) as server:
        fetch_ptb(tmp_path, mirrors=[server.url("/data/")], files=FILES)
    assert "without ptb.char.train.txt" in capsys.readouterr().err
    assert (tmp_path / "ptb.test.txt").read_bytes() == CONTENT["ptb.test.txt"]


@pytest.mark.parametrize(("behaviour", "message"), [(trickle, "too slow"), (silence, "timed out")])
def test_a_server_that_dawdles_is_given_up(
    tmp_path: Path, behaviour: Behaviour, message: str
) -> None:
    patience = Patience(silence=0.3, window=0.3, slowest=5000.0, attempts=2, pause=0.01)
    with serving({"/a.tgz": ARCHIVE}, behaviour) as server:
        start = time.monotonic()
        with pytest.raises(DataError, match=message):
            fetch_ptb(tmp_path, mirrors=[server.url("/a.tgz")], files=FILES, patience=patience)
        assert time.monotonic() - start < 20


def byte_by_byte_header(handler: Handler, data: bytes) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000:
        try:
            handler.wfile.write(bytes([byte]))
        except OSError:
            return
        time.sleep(0.02)


def continue_for_ever(handler: Handler, data: bytes) -> None:
    for _ in range(1000):
        try:
            handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except OSError:
            return
        time.sleep(0.02)


@pytest.mark.parametrize("behaviour", [byte_by_byte_header, continue_for_ever])
def test_a_server_that_never_comes_to_the_point_is_given_up(
    tmp_path: Path, behaviour: Behaviour
) -> None:
    with serving({"/f": b"x"}, behaviour) as server:
        start = time.monotonic()
        with pytest.raises(DataError, match="no answer within"):
            download(server.url("/f"), tmp_path / "f", IMPATIENT)
        assert time.monotonic() - start < 10


def test_too_large_an_answer_is_refused(tmp_path: Path) -> None:
    with (
        serving({"/f": b"x" * 1000}, whole) as server,
        pytest.raises(DataError, match="more than any corpus"),
    ):
        download(server.url("/f"), tmp_path / "f", Patience(largest=999))


def test_only_the_web_is_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")
    for url in (f"file://{secret}", "ftp://127.0.0.1/x", "nonsense"):
        with pytest.raises(DataError, match="only http and https"):
            download(url, tmp_path / "f")

    def redirect(handler: Handler, data: bytes) -> None:
        handler.send_response(302)
        handler.send_header("Location", f"file://{secret}")
        handler.end_headers()

    with serving({"/f": b"x"}, redirect) as server, pytest.raises(DataError):
        download(server.url("/f"), tmp_path / "f", IMPATIENT)
    assert not (tmp_path / "f").exists()


def hostile(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> bytes:
    """A good archive with one member too many, at its end."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for good_name, data in PUBLIC_LAYOUT.items():
            info = tarfile.TarInfo(good_name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo(name)
        info.type = kind
        info.linkname = target
        archive.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (hostile("/etc/ptblm"), "outside"),
        (hostile("../ptblm"), "outside"),
        (hostile("data/../../ptblm"), "outside"),
        (hostile("..\\ptblm"), "outside"),
        (hostile("C:/ptblm"), "outside"),
        (hostile("link", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
        (hostile("link", tarfile.LNKTYPE, "simple-examples/data/ptb.train.txt"), "link"),
        (hostile("pipe", tarfile.FIFOTYPE), "link or a device"),
        (ARCHIVE[: len(ARCHIVE) // 2], "damaged|ended"),
        (b"", "not a tar archive"),
        (make_archive({"other.txt": b"x"}), "holds none of"),
    ],
    ids=range(11),
)
def test_hostile_and_broken_archives_are_refused(
    tmp_path: Path, archive: bytes, message: str
) -> None:
    (tmp_path / "archive").write_bytes(archive)
    with pytest.raises(DataError, match=message):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "archive", files=FILES)
    assert list((tmp_path / "ptb").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "ptb"]


def test_a_header_that_declares_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    """A long name's length is a stranger's word; tarfile reads as much as it says."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 2**30
    (tmp_path / "long").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240))
    with pytest.raises(DataError, match=r"refused: a header of 1,073,741,\d+ bytes"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "long", files=FILES)


def test_an_archive_of_too_many_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.archive.MOST_MEMBERS", 3)
    (tmp_path / "many").write_bytes(ARCHIVE)
    with pytest.raises(DataError, match="more than 3 members"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "many", files=FILES)


def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.corpus.archive.LARGEST_UNPACKED", 10_000)
    (tmp_path / "bomb").write_bytes(make_archive({"zeros": bytes(20_000), **PUBLIC_LAYOUT}))
    with pytest.raises(DataError, match="unpacks to more than 10,000 bytes"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "bomb", files=FILES)


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_local_archive_of_any_compression(tmp_path: Path, mode: str) -> None:
    (tmp_path / "archive").write_bytes(make_archive(PUBLIC_LAYOUT, mode))
    fetch_ptb(tmp_path / "ptb", source=tmp_path / "archive", files=FILES)
    assert_good(tmp_path / "ptb")


@pytest.mark.parametrize("folder", [".", "data", "simple-examples/data"])
def test_a_local_directory(tmp_path: Path, folder: str) -> None:
    source = tmp_path / "source" / folder
    source.mkdir(parents=True)
    for name, data in CONTENT.items():
        (source / name).write_bytes(data)
    fetch_ptb(tmp_path / "ptb", source=tmp_path / "source", files=FILES)
    assert_good(tmp_path / "ptb")


def test_a_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVE)
    fetch_ptb(tmp_path / "ptb", source=tmp_path / "archive", files=FILES)
    (tmp_path / "ptb" / "ptb.test.txt").write_bytes(b"cut")
    fetch_ptb(tmp_path / "ptb", source=tmp_path / "archive", files=FILES)
    assert_good(tmp_path / "ptb")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or directory"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "nowhere", files=FILES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not found: ptb\.train\.txt"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "empty", files=FILES)


def test_a_stopped_download_goes_on_later(tmp_path: Path) -> None:
    """SIGTERM in the middle: its exit code, no file of a good name, and the half is kept."""
    sent = threading.Event()

    def half_then_nothing(handler: Handler, data: bytes) -> None:
        handler.wfile.write(start_of_answer(handler, data, ranges=True)[: len(data) // 2])
        handler.wfile.flush()
        sent.set()
        time.sleep(20)

    with serving({"/a.tgz": ARCHIVE}, half_then_nothing) as server:
        url = server.url("/a.tgz")
        command = [sys.executable, "-m", "ptblm", "download-data", "--url", url, "--to", "ptb"]
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=plain_environment(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL) and None,
        )
        assert sent.wait(30)
        part = tmp_path / "ptb"
        while not any(path.stat().st_size for path in part.glob("*.part")):
            time.sleep(0.01)
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 143
        assert "Traceback" not in errors
        assert [path.suffix for path in part.iterdir()] == [".part"]
        server.behaviour = whole
        fetch_ptb(part, mirrors=[url], files=FILES, patience=IMPATIENT)
        assert server.ranges[-1] == f"bytes={len(ARCHIVE) // 2}-"
    assert_good(part)


def test_a_file_that_cannot_be_read_is_a_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, data in CONTENT.items():
        (tmp_path / name).write_bytes(data)
    kept = tmp_path / "ptb.valid.txt"
    really_open = Path.open

    def refusing(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == kept:  # root may read everything, so this stands for the mode
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", refusing)
    with pytest.raises(DataError, match="can't be read or written: Permission denied") as caught:
        fetch_ptb(tmp_path, mirrors=["http://127.0.0.1:9/"], files=FILES)
    assert f"at: {kept}" in str(caught.value)


def test_a_directory_in_a_files_place_is_a_clear_line(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVE)
    (tmp_path / "ptb" / "ptb.test.txt" / "notes").mkdir(parents=True)
    with pytest.raises(DataError, match="can't be read or written: Is a directory"):
        fetch_ptb(tmp_path / "ptb", source=tmp_path / "archive", files=FILES)
    assert (tmp_path / "ptb" / "ptb.test.txt" / "notes").is_dir()


def test_two_downloads_do_not_share_a_directory(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        mirrors = [server.url("/a.tgz")]
        with locked(tmp_path), pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
            fetch_ptb(tmp_path, mirrors=mirrors, files=FILES)
        assert server.ranges == []
        fetch_ptb(tmp_path, mirrors=mirrors, files=FILES)
    assert_good(tmp_path)


def test_a_whole_download_that_was_not_installed_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full when all is fetched: with room again, nothing is asked for."""
    pages = {"/a.tgz": ARCHIVE, **{f"/data/{name}": data for name, data in CONTENT.items()}}
    for path in ("/a.tgz", "/data/"):
        directory = tmp_path / path.strip("/")
        with serving(pages, whole) as server:
            with monkeypatch.context() as patch:
                patch.setattr("shutil.copyfileobj", full_disk)
                with pytest.raises(DataError, match="No space left"):
                    fetch_ptb(directory, mirrors=[server.url(path)], files=FILES)
            assert [part.suffix for part in directory.iterdir()] == [".part"]
            asked = len(server.ranges)
            assert asked == 1
            fetch_ptb(directory, mirrors=[server.url(path)], files=FILES)
            assert len(server.ranges) - asked == (0 if path == "/a.tgz" else len(FILES) - 1)
        assert_good(directory)


def full_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


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


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("retry_after", ["0", "1", None, "soon", "Sun, 06 Nov 1994 08:49:37 GMT"])
def test_a_busy_server_is_asked_again_when_it_says(
    tmp_path: Path, code: int, retry_after: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    patience = replace(IMPATIENT, window=5.0)
    with serving({"/f": b"x"}, busy(code, retry_after, times=2)) as server:
        start = time.monotonic()
        download(server.url("/f"), tmp_path / "f", patience)
        took = time.monotonic() - start
        assert len(server.ranges) == 3
    assert (tmp_path / "f").read_bytes() == b"x"
    assert (took >= 2.0) == (retry_after == "1")
    assert capsys.readouterr().err.count("again in") == 2


def test_a_server_that_stays_busy_is_given_up(tmp_path: Path) -> None:
    with serving({"/f": b"x"}, busy(503, "0", times=1000)) as server:
        with pytest.raises(DataError, match="503 Service Unavailable"):
            download(server.url("/f"), tmp_path / "f", IMPATIENT)
        assert len(server.ranges) == IMPATIENT.attempts


@pytest.mark.parametrize(
    "retry_after", ["61", "9" * 400, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"]
)
def test_a_server_that_asks_for_too_long_a_wait_gives_way_to_the_next(
    tmp_path: Path, retry_after: str
) -> None:
    with (
        serving({"/a.tgz": ARCHIVE}, busy(503, retry_after, times=1000)) as first,
        serving({"/a.tgz": ARCHIVE}, whole) as second,
    ):
        mirrors = [first.url("/a.tgz"), second.url("/a.tgz")]
        fetch_ptb(tmp_path, mirrors=mirrors, files=FILES, patience=Patience(pause=0.01))
        assert len(first.ranges) == 1
    assert_good(tmp_path)
