"""Progress: a bar on a terminal, and a line every 30 seconds otherwise."""

import io
import logging
import os

import pytest

from ptblm.evaluation.score import Score
from ptblm.reporting.progress import Progress
from ptblm.terminal import open_standard_streams
from ptblm.training.records import Evaluating
from tests.reporting.records import STEP


class Terminal(io.StringIO):
    """Records what is written to a terminal."""

    def isatty(self) -> bool:
        return True


def test_bar_shows_perplexity_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    progress = Progress(3, {"valid": 10.0}, terminal)
    progress.show(STEP)
    progress.show(Evaluating("valid", Score(nll=23.0, tokens=10), 100))
    progress.close()
    # At 0.2 s per batch: 150 batches are left of this epoch, and 200 of the next one.
    expected = "epoch 2/3, perplexity 54.60, 0:30 left (run 1:10), 100 tokens/s, 50/200"
    assert expected in terminal.getvalue()
    assert "valid, perplexity 9.97, entropy bound 10.00" in terminal.getvalue()
    assert capsys.readouterr() == ("", "")


def test_line_every_30_seconds_without_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(3, {})
    for _ in range(100):
        now[0] += 1
        progress.show(STEP)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 2/3: 50 of 200, perplexity 54.60")


def test_unwritable_stdout_is_reported_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stdout, caplog.at_level(logging.WARNING, "ptblm"):
        monkeypatch.setattr("sys.stdout", stdout)
        monkeypatch.setattr("sys.stderr", io.StringIO())
        open_standard_streams()
        progress = Progress(3, {}, io.StringIO())
        progress.print_lines(["first"])
        progress.print_lines(["second"])
    assert caplog.messages == ["cannot write to stdout (Broken pipe); training continues"]
