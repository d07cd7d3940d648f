"""The metrics file: complete lines only, also after a full disk or a truncation."""

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from ptblm.reporting.metrics import MetricsFile
from tests.reporting.records import EPOCH, STEP, TEST


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_have_bits_named_after_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0, log_every=125, unit="word")
    for record in (STEP, EPOCH, TEST):
        metrics.write(record)
    metrics.close()
    step, epoch, test = lines(path)
    assert [record["kind"] for record in (step, epoch, test)] == ["step", "epoch", "test"]
    assert step["nll"] == 0.5
    assert (epoch["train_bits_per_word"], epoch["valid_bits_per_word"]) == (3.0, 2.0)
    assert test["test_bits_per_word"] == pytest.approx(2)
    assert test["test_bits_per_word_without_eos"] == pytest.approx(28 / 12)
    assert metrics.offset == path.stat().st_size


def test_only_every_nth_step_is_written(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0, log_every=100, unit="word")
    metrics.write(STEP)  # step 250
    metrics.close()
    assert lines(tmp_path / "metrics.jsonl") == []


def test_records_after_the_checkpoint_are_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n{"st')
    with caplog.at_level(logging.WARNING, "ptblm"):
        MetricsFile(path, 12, log_every=1, unit="word").close()
        assert lines(path) == [{"step": 1}]
        assert caplog.messages == []
        metrics = MetricsFile(path, 20, log_every=1, unit="word")
    assert caplog.messages == [f"{path} is 8 bytes shorter than at the last checkpoint"]
    assert metrics.offset == 12
    metrics.close()


def test_lines_that_cannot_be_written_are_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path, 0, log_every=1, unit="word")

    class FullDisk:
        """Writes only the first 10 bytes."""

        def write(self, data: bytes) -> int:
            return os.write(file.fileno(), data[:10])

        def truncate(self, size: int) -> None:
            file.truncate(size)

    file = metrics._file
    with caplog.at_level(logging.WARNING, "ptblm"):
        monkeypatch.setattr(metrics, "_file", FullDisk())
        metrics.write(STEP)
        metrics.write(STEP)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith(
        "was not written (No space left on device); training continues"
    )
    assert path.read_bytes() == b""
    monkeypatch.setattr(metrics, "_file", file)
    metrics.write(EPOCH)
    metrics.close()
    assert [record["kind"] for record in lines(path)] == ["step", "step", "epoch"]
