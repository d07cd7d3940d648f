"""Log messages on stderr: labels, control characters, progress bars, closed streams."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from tqdm import tqdm

from ptblm.cli.output import configure_logging

logger = logging.getLogger("ptblm.test")


@pytest.fixture(autouse=True)
def logging_configured() -> Iterator[None]:
    package = logging.getLogger("ptblm")
    before = package.handlers, package.propagate, package.level
    configure_logging()
    yield
    package.handlers, package.propagate = before[:2]
    package.setLevel(before[2])


def test_labels_of_notes_and_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()  # a second call must not print messages twice
    logger.debug("hidden")
    logger.info("%d file read", 1)
    logger.warning("file \x1b[2J missing")
    output = capsys.readouterr()
    assert output.err == "note: 1 file read\nwarning: file \\x1b[2J missing\n"
    assert output.out == ""


def test_message_does_not_break_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with tqdm(total=2, desc="epoch", file=stream, mininterval=0) as bar:
        bar.update(1)
        logger.info("saved")
    before, after = stream.getvalue().split("note: saved\n")
    # The bar is cleared, the message has its own line, and the bar is drawn again.
    assert before.endswith("\r")
    assert not before.split("\r")[-2].strip()
    assert "epoch" in after


def test_closed_stderr_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    logger.warning("not shown")
