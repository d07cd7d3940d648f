"""Downloads: verified, resumed, with other mirrors as fallback; wrong content is rejected."""

import hashlib
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ptblm.corpus.datasets import DATASETS
from ptblm.corpus.datasets import fetch as fetch_module
from ptblm.corpus.datasets.fetch import ATTEMPTS, fetch
from ptblm.errors import DataError
from tests.conftest import Ptblm, plain_environment
from tests.corpus.datasets.server import (
    Behavior,
    Handler,
    cut_short,
    cut_short_without_ranges,
    redirect,
    serving,
    start_of_answer,
    unavailable,
    whole,
)
from tests.corpus.datasets.small_ptb import ARCHIVE, CONTENT, DATASET, assert_good, make_archive

PAGES = {f"/data/{name}": data for name, data in CONTENT.items()}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "PAUSE", 0.0)
    monkeypatch.setattr(fetch_module, "TIMEOUT", 2.0)


def part_of(url: str) -> str:
    return f"archive-{hashlib.sha256(url.encode()).hexdigest()[:12]}.part"


def test_archive_is_downloaded_once(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        result = fetch(DATASET, tmp_path / "ptb", urls=[server.url("/a.tgz")])
        assert (result.directory, result.verified) == (tmp_path / "ptb", list(CONTENT))
        assert result.missing == result.failures == []
        assert_good(tmp_path / "ptb")
        # Good files are kept, and nothing is requested.
        stamp = (tmp_path / "ptb" / "ptb.train.txt").stat().st_mtime_ns
        requests = len(server.ranges)
        assert fetch(DATASET, tmp_path / "ptb", urls=[server.url("/a.tgz")]) == result
        assert len(server.ranges) == requests
        assert (tmp_path / "ptb" / "ptb.train.txt").stat().st_mtime_ns == stamp


def test_folder_of_files_is_downloaded(tmp_path: Path) -> None:
    with serving(PAGES, whole) as server:
        fetch(DATASET, tmp_path, urls=[server.url("/data/")])
    assert_good(tmp_path)


def test_cut_connection_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "ATTEMPTS", 50)
    with serving({"/data/ptb.train.txt": CONTENT["ptb.train.txt"]}, cut_short) as server:
        with pytest.raises(DataError, match="404"):
            fetch(DATASET, tmp_path, urls=[server.url("/data/")])
        size = len(CONTENT["ptb.train.txt"])
        assert server.ranges[:2] == [None, f"bytes={size // 3}-"]
    assert (tmp_path / "ptb.train.txt").read_bytes() == CONTENT["ptb.train.txt"]


def test_server_without_ranges_restarts(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE}, cut_short_without_ranges) as server:
        fetch(DATASET, tmp_path, urls=[server.url("/a.tgz")])
    assert_good(tmp_path)


def test_later_call_resumes_a_partial_download(tmp_path: Path) -> None:
    def first_half_then_nothing(handler: Handler, data: bytes) -> None:
        if handler.headers.get("Range"):
            handler.send_error(503)
            return
        handler.wfile.write(start_of_answer(handler, data, ranges=True)[: len(data) // 2])

    with serving({"/a.tgz": ARCHIVE}, first_half_then_nothing) as server:
        url = server.url("/a.tgz")
        with pytest.raises(DataError, match="503"):
            fetch(DATASET, tmp_path, urls=[url])
        # No file has its final name yet.
        assert [path.name for path in tmp_path.iterdir()] == [part_of(url)]
        server.behavior = whole
        fetch(DATASET, tmp_path, urls=[url])
        assert server.ranges[-1] == f"bytes={len(ARCHIVE) // 2}-"
    assert_good(tmp_path)


@pytest.mark.parametrize("size", [100, len(ARCHIVE) + 5])
def test_wrong_partial_download_is_discarded(tmp_path: Path, size: int) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        url = server.url("/a.tgz")
        (tmp_path / part_of(url)).write_bytes(b"x" * size)
        fetch(DATASET, tmp_path, urls=[url])
        assert server.ranges == [f"bytes={size}-", None]
    assert_good(tmp_path)


def test_wrong_bytes_never_get_the_final_name(tmp_path: Path) -> None:
    wrong = {name: data[:-1] + b"x" for name, data in CONTENT.items()}
    pages = {
        "/a.tgz": make_archive(wrong),
        "/b.tgz": b"<html>moved</html>",
        **{f"/data/{name}": data for name, data in wrong.items()},
    }
    with serving(pages, whole) as server:
        urls = [server.url(path) for path in ("/a.tgz", "/b.tgz", "/data/")]
        with pytest.raises(DataError) as caught:
            fetch(DATASET, tmp_path, urls=urls)
    assert caught.value.what.count("wrong content") == 2
    assert "not a tar archive" in caught.value.what
    assert [line.split(": ")[0] for line in caught.value.what.splitlines()] == urls
    assert list(tmp_path.iterdir()) == []


def test_mirrors_are_tried_in_order_until_complete(tmp_path: Path) -> None:
    with serving({"/b.tgz": ARCHIVE}, whole) as first, serving({"/c.tgz": ARCHIVE}, whole) as last:
        urls = [first.url("/a.tgz"), first.url("/b.tgz"), last.url("/c.tgz")]
        assert fetch(DATASET, tmp_path, urls=urls).failures == []
        assert (len(first.ranges), len(last.ranges)) == (2, 0)
    assert_good(tmp_path)


def test_missing_optional_files_are_reported(tmp_path: Path) -> None:
    pages = {path: data for path, data in PAGES.items() if "char" not in path}
    with serving(pages, whole) as server:
        result = fetch(DATASET, tmp_path, urls=[server.url("/data/")])
    assert result.missing == ["ptb.char.train.txt"]
    assert result.verified == [name for name in CONTENT if "char" not in name]
    assert "404" in result.failures[0]
    assert (tmp_path / "ptb.test.txt").read_bytes() == CONTENT["ptb.test.txt"]


def silent(handler: Handler, data: bytes) -> None:
    start_of_answer(handler, data, ranges=True)
    time.sleep(1)


@pytest.mark.parametrize(
    ("behavior", "message", "requests"),
    [
        (silent, "timed out", ATTEMPTS),
        (unavailable(1000), "503 Service Unavailable", ATTEMPTS),
        (unavailable(1000, 403), "403 Forbidden", 1),
    ],
)
def test_failing_server_is_given_up(
    tmp_path: Path,
    behavior: Behavior,
    message: str,
    requests: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.1)
    with serving({"/a.tgz": ARCHIVE}, behavior) as server:
        with pytest.raises(DataError, match=message):
            fetch(DATASET, tmp_path, urls=[server.url("/a.tgz")])
        assert len(server.ranges) == requests


@pytest.mark.parametrize("code", [429, 500, 503])
def test_busy_server_is_asked_again(tmp_path: Path, code: int) -> None:
    with serving({"/a.tgz": ARCHIVE}, unavailable(ATTEMPTS - 1, code)) as server:
        fetch(DATASET, tmp_path, urls=[server.url("/a.tgz")])
        assert len(server.ranges) == ATTEMPTS
    assert_good(tmp_path)


def test_too_large_download_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_module, "MAX_SIZE", len(ARCHIVE) - 1)
    with (
        serving({"/a.tgz": ARCHIVE}, whole) as server,
        pytest.raises(DataError, match="more than"),
    ):
        fetch(DATASET, tmp_path, urls=[server.url("/a.tgz")])


def test_full_disk_during_a_download_is_not_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tqdm.std.tqdm.update", full_disk)
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        with pytest.raises(DataError, match="cannot be read or written: No space left"):
            fetch(DATASET, tmp_path, urls=[server.url("/a.tgz")])
        assert len(server.ranges) == 1


def test_only_http_and_https_are_allowed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(ARCHIVE)
    for url in (f"file://{secret}", "ftp://127.0.0.1/x", "nonsense"):
        with pytest.raises(DataError, match="only http and https"):
            fetch(DATASET, tmp_path / "ptb", urls=[url])
        with serving({"/a.tgz": b"x"}, redirect(url)) as server, pytest.raises(DataError):
            fetch(DATASET, tmp_path / "ptb", urls=[server.url("/a.tgz")])
    assert list((tmp_path / "ptb").iterdir()) == []


def test_redirect_to_http_is_followed(tmp_path: Path) -> None:
    with (
        serving({"/b.tgz": ARCHIVE}, whole) as last,
        serving({"/a.tgz": b"x"}, redirect(last.url("/b.tgz"))) as first,
    ):
        fetch(DATASET, tmp_path, urls=[first.url("/a.tgz")])
    assert_good(tmp_path)


def test_progress_is_shown_on_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving({"/a.tgz": ARCHIVE}, whole) as server:
        fetch(DATASET, tmp_path / "quiet", urls=[server.url("/a.tgz")])
        assert capsys.readouterr() == ("", "")
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        fetch(DATASET, tmp_path / "shown", urls=[server.url("/a.tgz")])
    out, err = capsys.readouterr()
    assert out == ""
    assert "a.tgz, 0.0 of 0.0 MB" in err


def test_offline_error_suggests_a_mirror_or_a_local_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Connection refused") as caught:
        fetch(DATASET, tmp_path, urls=["http://127.0.0.1:9/a.tgz"])
    assert caught.value.hint is not None
    assert "behind a proxy, pass a mirror (`--url`)" in caught.value.hint
    assert "local archive (`--from`)" in caught.value.hint


@pytest.mark.parametrize("folder", [".", "data", "simple-examples/data"])
def test_local_directory(tmp_path: Path, folder: str) -> None:
    source = tmp_path / "source" / folder
    source.mkdir(parents=True)
    for name, data in CONTENT.items():
        (source / name).write_bytes(data)
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "source")
    assert_good(tmp_path / "ptb")


def test_damaged_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVE)
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    (tmp_path / "ptb" / "ptb.test.txt").write_bytes(b"cut")
    fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert_good(tmp_path / "ptb")


def test_missing_local_source_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or directory"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"not found: ptb\.train\.txt"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "empty")


def test_terminated_download_is_resumed(tmp_path: Path) -> None:
    """SIGTERM in the middle: exit code 143, no file with its final name, and a partial file."""
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
        directory = tmp_path / "ptb"
        while not any(path.stat().st_size for path in directory.glob("*.part")):
            time.sleep(0.01)
        process.terminate()
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 143
        assert "Traceback" not in errors
        assert [path.name for path in directory.iterdir()] == [part_of(url)]
        server.behavior = whole
        fetch(DATASET, directory, urls=[url])
        assert server.ranges[-1] == f"bytes={len(ARCHIVE) // 2}-"
    assert_good(directory)


def test_unreadable_file_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, data in CONTENT.items():
        (tmp_path / name).write_bytes(data)
    unreadable = tmp_path / "ptb.valid.txt"
    original = Path.open

    def open_or_raise(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == unreadable:  # simulated: root can read every file
            raise PermissionError(13, "Permission denied", str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_or_raise)
    with pytest.raises(DataError, match="cannot be read or written: Permission denied") as caught:
        fetch(DATASET, tmp_path, urls=["http://127.0.0.1:9/"])
    assert caught.value.where == str(unreadable)


def test_directory_with_the_name_of_a_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(ARCHIVE)
    (tmp_path / "ptb" / "ptb.test.txt" / "notes").mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read or written: Is a directory"):
        fetch(DATASET, tmp_path / "ptb", source=tmp_path / "archive")
    assert (tmp_path / "ptb" / "ptb.test.txt" / "notes").is_dir()


@pytest.mark.parametrize("path", ["/a.tgz", "/data/"])
def test_full_disk_keeps_the_download(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with serving({"/a.tgz": ARCHIVE, **PAGES}, whole) as server:
        with monkeypatch.context() as patch:
            patch.setattr("shutil.copyfileobj", full_disk)
            with pytest.raises(DataError, match="No space left"):
                fetch(DATASET, tmp_path, urls=[server.url(path)])
        (part,) = tmp_path.iterdir()
        assert part.suffix == ".part"
        size = part.stat().st_size
        fetch(DATASET, tmp_path, urls=[server.url(path)])
        # Nothing is downloaded again: the server has no bytes after these.
        assert server.ranges[:2] == [None, f"bytes={size}-"]
        assert len(server.ranges) == (2 if path == "/a.tgz" else len(CONTENT) + 1)
    assert_good(tmp_path)


def test_concurrent_downloads_leave_only_good_files(tmp_path: Path) -> None:
    with serving({"/a.tgz": ARCHIVE, **PAGES}, whole) as server:
        urls = [server.url("/a.tgz"), server.url("/data/")]
        outcomes: list[object] = []

        def download() -> None:
            try:
                outcomes.append(fetch(DATASET, tmp_path, urls=urls))
            except DataError as error:
                outcomes.append(error)

        threads = [threading.Thread(target=download) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(outcomes) == 4
        for name in CONTENT:
            path = tmp_path / name
            assert not path.exists() or path.read_bytes() == CONTENT[name]
        fetch(DATASET, tmp_path, urls=urls)
    assert {path.name for path in tmp_path.glob("*.txt")} == set(CONTENT)


def test_command_reports_verified_files_and_directory(ptblm: Ptblm, ptb_directory: Path) -> None:
    result = ptblm("download-data", "--from", ptb_directory, "--to", "ptb")
    assert result.returncode == 0, result.stderr
    count = sum((ptb_directory / name).is_file() for name in DATASETS["ptb"].files)
    assert result.stdout.startswith(f"ptb contains {count} verified files: ptb.train.txt, ")
    failed = ptblm("download-data", "--from", "nowhere", "--to", "empty")
    assert failed.returncode == 3
    assert "no such file or directory" in failed.stderr
    assert "hint: check the path" in failed.stderr
