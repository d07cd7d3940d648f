"""Rows of data on stdout: unchanged in files and pipes, escaped on a terminal."""

import io
import os
import sys
from collections.abc import Iterator

import pytest

from ptblm.terminal import OutputError, print_rows


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def test_pipes_receive_the_bytes_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    rows = ["a\tb\x1b[2J", "caf\u00e9\u200b\udce9", "", "x" * 200_000]
    print_rows(iter(rows), unchanged=True)
    expected = "".join(f"{row}\n" for row in rows).encode("utf-8", "surrogateescape")
    assert content.getvalue() == expected


def test_control_characters_are_escaped_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    print_rows(["a\tb\x1b[2J\n"], unchanged=True)
    assert terminal.getvalue() == "a\tb\\x1b[2J\\n\n"


def test_control_characters_are_escaped_unless_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="utf-8"))
    print_rows(["a\tb\x1b[2J", "c\td"])
    assert content.getvalue() == b"a\tb\\x1b[2J\nc\td\n"


def test_rows_before_an_error_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="utf-8"))

    def rows() -> Iterator[str]:
        yield "a"
        raise ValueError("the text is damaged")

    with pytest.raises(ValueError, match="damaged"):
        print_rows(rows())
    assert content.getvalue() == b"a\n"


def test_rows_are_printed_at_once_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    rows = iter(range(3))
    printed = (f"{row} after {terminal.getvalue()!r}" for row in rows)
    print_rows(printed, unchanged=True)
    assert terminal.getvalue().splitlines()[1] == r"1 after \"0 after ''\n\"".replace(r"\"", '"')


def test_rows_are_not_collected_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content))
    waiting = []

    def rows() -> Iterator[str]:
        for number in range(3000):
            waiting.append(100 * number - len(content.getvalue()))
            yield "x" * 99

    print_rows(rows(), unchanged=True)
    assert max(waiting) < 100_000
    assert len(content.getvalue()) == 300_000


def test_closed_pipe_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(OutputError) as error:
            print_rows(["a"], unchanged=True)
        assert error.value.is_closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # what is buffered is written at the end
