"""The table of a run and its summary: aligned, within 80 columns, with bits and entropy bound."""

import io
import math
from dataclasses import replace

import pytest

from ptblm.evaluation.score import Score
from ptblm.reporting.table import epoch_row, header, sparkline, summary
from ptblm.training.records import EpochDone, RunDone
from tests.reporting.records import EPOCH, TEST, WORSE_EPOCH

ROW = EpochDone(13, 30199, 0.5**9, 41.1, 119.58, 197.4, 4707.3, best=True)


def test_table_is_aligned_and_fits_80_columns() -> None:
    row = epoch_row(ROW)
    head, bound = header({"valid": 10.156})
    assert row == "   13  0.001953      41.10     119.58     197.4      4,707      6.9018 *"
    assert len(head) == len(bound) == len(row) - 2 <= 80
    assert bound.index("10.16") + len("10.16") == head.index("valid") + len("valid")
    assert bound.split() == ["bound", "10.16", f"{math.log2(10.156):.4f}"]
    # A fast device, a tiny learning rate, and an epoch at chance level.
    widest = EpochDone(100, 10**6, 0.0001234, 100_000.0, 100_000.0, 99_999.9, 9_999_999.0, True)
    assert len(epoch_row(replace(widest, averaged=5))) <= 80


def test_row_says_whether_the_average_was_validated() -> None:
    assert epoch_row(replace(ROW, averaged=1)) == epoch_row(ROW) + " avg"


def test_star_marks_only_the_best_epoch() -> None:
    row = epoch_row(EpochDone(1, 6271, 0.5, 3.7, 4.0, 290.0, 17300.0, best=False))
    assert row.endswith("     17,300      2.0000")
    assert len(header({})) == 1


def test_summary_has_a_line_for_each_kind_of_bits() -> None:
    lines = summary([EPOCH], TEST, "character", {"test": 3.5}, [])
    assert lines == [
        "",
        "valid perplexity 4.00",
        "test perplexity 4.00 (entropy bound 3.50), 1.3863 nats per token, 16 tokens",
        "train bits per character 3.0000",
        "valid bits per character 2.0000",
        "test bits per character 2.0000",
        "test bits per character without <eos> 2.3333",
    ]
    assert "test bits per word without <eos> 2.3333" in summary([EPOCH], TEST, "word", {}, [])


def test_summary_reports_the_best_epoch_if_it_is_not_the_last() -> None:
    best = RunDone(150, TEST.score, Score(10 * math.log(2), 10))
    lines = summary([EPOCH, WORSE_EPOCH], best, "word", {}, [])
    assert lines[1] == "valid perplexity 8.00"
    assert lines[-1] == "best valid perplexity 4.00 after epoch 2: test perplexity 2.00"
    lines = summary([EPOCH, WORSE_EPOCH], TEST, "word", {}, [])
    assert lines[-1] == "best valid perplexity 4.00 after epoch 2"


def test_summary_without_a_test_split() -> None:
    assert summary([EPOCH], RunDone(100, None), "character", {}, []) == [
        "",
        "valid perplexity 4.00",
        "no test perplexity: the corpus has no test split",
        "train bits per character 3.0000",
        "valid bits per character 2.0000",
    ]


def test_sparkline_is_the_curve_of_logarithms() -> None:
    assert sparkline([128.0, 64.0, 32.0, 16.0, 8.0, 4.0, 2.0, 1.0]) == "█▇▆▅▄▃▂▁"
    assert sparkline([5.0, 5.0]) == "▁▁"
    many = sparkline([float(n) for n in range(1, 1001)])
    assert len(many) == 50
    assert list(many) == sorted(many)
    assert many[-1] == "█"


def test_summary_has_a_sparkline_if_the_terminal_can_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    epochs = [replace(EPOCH, epoch=n, valid_perplexity=2.0**-n) for n in (1, 2, 3)]
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))
    assert "valid perplexity by epoch █▅▁" in summary(epochs, TEST, "word", {}, [])
    assert not any("by epoch" in line for line in summary(epochs[:2], TEST, "word", {}, []))
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    assert not any("by epoch" in line for line in summary(epochs, TEST, "word", {}, []))
