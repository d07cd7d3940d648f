"""Downloading: what is cut is continued; what dawdles, is busy or lies is given up."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from ptblm.corpus.datasets.http import Patience, download

from ptblm.errors import DataError
from tests.corpus.datasets.server import (
    IMPATIENT,
    Behaviour,
    Handler,
    busy,
    cut_short,
    serving,
    start_of_answer,
    whole,
)

PAGE = b" the cat \n" * 9000


def test_a_cut_connection_is_continued(tmp_path: Path) -> None:
    with serving({"/f": PAGE}, cut_short) as server:
        download(server.url("/f"), tmp_path / "f", replace(IMPATIENT, attempts=50))
        assert (tmp_path / "f").read_bytes() == PAGE
        assert server.ranges[:2] == [None, f"bytes={len(PAGE) // 3}-"]


def test_a_server_that_gives_a_byte_at_a_time_is_given_up(tmp_path: Path) -> None:
    def one_byte(handler: Handler, data: bytes) -> None:
        handler.wfile.write(start_of_answer(handler, data, ranges=True)[:1])

    with serving({"/f": PAGE}, one_byte) as server:
        with pytest.raises(DataError, match="was cut"):
            download(server.url("/f"), tmp_path / "f", IMPATIENT)
        assert len(server.ranges) == IMPATIENT.attempts


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
