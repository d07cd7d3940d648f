"""The progress bar on real terminals of several widths: it never wraps."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from ptblm.evaluation.score import Score
from ptblm.progress_bar import ProgressBar, fit
from ptblm.reporting.progress import Progress
from ptblm.training.records import Evaluating
from tests.conftest import plain_environment
from tests.reporting.records import STEP

WIDTHS = [10, 20, 40, 80, 140]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """A pseudo-terminal: the end that reads, and the stream that writes to it."""
    monkeypatch.delenv("COLUMNS", raising=False)
    reader, writer = pty.openpty()
    with open(writer, "w", encoding="utf-8") as stream:
        yield reader, stream
    os.close(reader)


def resize(descriptor: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def read(reader: int) -> str:
    """What was written to a terminal. The kernel delivers it in parts, after some time."""
    data = b""
    while select.select([reader], [], [], 0.5)[0]:
        data += os.read(reader, 10_000)
    return data.decode()


def lines(text: str) -> list[str]:
    """What was written to each line of a terminal, without escape sequences."""
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if line]


@pytest.mark.parametrize("columns", WIDTHS)
def test_bar_of_a_run_fits(columns: int, terminal: tuple[int, TextIO]) -> None:
    reader, stream = terminal
    resize(reader, columns)
    progress = Progress(3, {"valid": 10.0}, stream)
    progress.show(STEP)
    progress.show(Evaluating("valid", Score(nll=23.0, tokens=10), 100))
    progress.close()
    shown = lines(read(reader))
    assert len(shown) == 2
    assert all(len(line) < columns for line in shown)
    full = "epoch 2/3, perplexity 54.60, 0:30 left (run 1:10), 100 tokens/s, 50/200"
    text, _, bar = shown[0].partition(" |")
    assert text == {10: "epoch 2/3", 20: "perplexity 54.60", 40: full[:27]}.get(columns, full)
    assert len(bar) == {40: 10, 140: 13}.get(columns, 0)


def test_bar_fits_after_the_terminal_is_resized(terminal: tuple[int, TextIO]) -> None:
    reader, stream = terminal
    resize(reader, 140)
    bar = ProgressBar(100, stream=stream)
    bar.show(1, ["task", "perplexity 5.00", "x" * 80])
    assert len(lines(read(reader))[0]) > 100
    resize(reader, 40)
    time.sleep(0.2)
    bar.show(50, ["task", "perplexity 5.00", "x" * 80])
    bar.close()
    assert all(len(line) < 40 for line in lines(read(reader)))


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (60, "test split of corpus, perplexity 12.34, 50%"),
        (42, "test split of corpus, perplexity 12.34"),
        (30, "test split …, perplexity 12.34"),
        (16, "perplexity 12.34"),
    ],
)
def test_least_important_parts_are_omitted(width: int, text: str) -> None:
    assert fit(["test split of corpus", "perplexity 12.34", "50%"], width) == text
    assert len(text) <= width


@pytest.mark.parametrize("columns", [40, 80, 140])
def test_commands_fit_the_terminal(
    columns: int, terminal: tuple[int, TextIO], finished_run: Path, small_corpus: Path
) -> None:
    """`ptblm eval` in a real process, of a text with a long name."""
    reader, stream = terminal
    resize(reader, columns)
    text = small_corpus / f"{'long' * 40}.txt"
    text.write_text((small_corpus / "train.txt").read_text() * 20)
    environment = plain_environment()
    del environment["COLUMNS"]
    result = subprocess.run(
        [sys.executable, "-m", "ptblm", "eval", str(finished_run), "--text", str(text)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=stream,
        timeout=120,
    )
    assert result.returncode == 0
    shown = lines(read(reader))
    assert "perplexity" in shown[0]
    assert all(len(line) < columns for line in shown)
