"""Fetching: whole, verified, from the next mirror, after a stop; no wrong byte gets a good name."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ptblm.corpus.datasets.http import Patience

from ptblm.corpus.datasets.fetch import fetch_ptb
from ptblm.errors import DataError, UsageError
from ptblm.lock import locked
from tests.conftest import plain_environment
from tests.corpus.datasets.server import (
    IMPATIENT,
    Behaviour,
    Handler,
    busy,
    cut_short_without_ranges,
    serving,
    silence,
    start_of_answer,
    trickle,
    whole,
)
from tests.corpus.datasets.small_ptb import ARCHIVE, CONTENT, FILES, assert_good, make_archive


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
