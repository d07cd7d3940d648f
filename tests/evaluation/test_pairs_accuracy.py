"""Accuracy on minimal pairs: published results of BLiMP, ties, groups, and the table."""

import json
from pathlib import Path
from typing import get_args

import pytest

from ptblm.evaluation.minimal_pairs.accuracy import Summary, summarize
from ptblm.evaluation.minimal_pairs.judgments import Judgment, Verdict
from ptblm.reporting.pairs_table import bar, pairs_table

# Of 1000 pairs: the columns of the published results.
NGRAM, LSTM, TRANSFORMER_XL, GPT2 = range(1, 5)


def judged(
    paradigm: str, counts: dict[Verdict, int], groups: dict[str, str] | None = None
) -> list[Judgment]:
    """Judgments with this number of each verdict; ties are pairs that are the same."""
    return [
        Judgment(paradigm, groups or {}, verdict, verdict == "tie", words=10, unknown=1)
        for verdict in get_args(Verdict)
        for _ in range(counts.get(verdict, 0))
    ]


def published(golden: Path, column: int) -> Summary:
    """The summary of judgments with the accuracies of a published model."""
    results = json.loads((golden / "blimp_models.json").read_text())
    return summarize(
        [
            judgment
            for uid, row in results.items()
            for judgment in judged(
                uid,
                {"right": row[column], "wrong": 1000 - row[column]},
                {"phenomenon": row[0]},
            )
        ]
    )


@pytest.mark.parametrize(
    ("column", "expected"), [(NGRAM, 61.2), (LSTM, 69.8), (TRANSFORMER_XL, 69.6), (GPT2, 83.0)]
)
def test_published_accuracies_have_the_published_mean(
    golden: Path, column: int, expected: float
) -> None:
    summary = published(golden, column)
    assert summary.overall.paradigms == len(summary.paradigms) == 67
    assert summary.overall.pairs == 67_000
    assert round(100 * summary.overall.mean, 1) == expected
    assert summary.overall.over_pairs == pytest.approx(summary.overall.mean)


def test_published_accuracies_have_the_published_phenomena(golden: Path) -> None:
    phenomena = {each.name: each for each in published(golden, LSTM).groups["phenomenon"]}
    assert len(phenomena) == 12
    expected = {
        "subject_verb_agreement": 80.1,
        "determiner_noun_agreement": 85.4,
        "anaphor_agreement": 91.7,
        "island_effects": 46.6,
        "npi_licensing": 51.7,
    }
    assert {name: round(100 * phenomena[name].mean, 1) for name in expected} == expected


def test_published_accuracies_fill_the_table(golden: Path) -> None:
    lines = pairs_table(published(golden, LSTM), "word")
    assert all(len(line) <= 80 for line in lines)
    rows = {line.split()[0]: line.split()[1:] for line in lines if line}
    assert rows["adjunct_island"][0] == "67.4"
    assert rows["subject_verb_agreement"][0] == "80.1"
    assert rows["overall"][0] == "69.8"
    assert rows["overall"][-3:] == ["67,000", "0", "10.0%"]


def test_ties_count_half_unless_strict() -> None:
    judgments = judged("a", {"right": 5, "wrong": 3, "tie": 2})
    (lenient,), (strict,) = (summarize(judgments, strict=s).paradigms for s in (False, True))
    assert (lenient.mean, strict.mean) == (0.6, 0.5)
    assert lenient.ties == strict.ties == 2
    assert lenient.right == strict.right == 5
    assert lenient.same_share == 0.2
    assert lenient.unknown_share == 0.1


def test_groups_are_means_over_their_paradigms() -> None:
    judgments = [
        *judged("a", {"right": 1, "wrong": 3}, {"field": "x", "kind": "k"}),
        *judged("b", {"right": 1}, {"field": "x"}),
        *judged("c", {"wrong": 1}, {"field": "y"}),
    ]
    summary = summarize(judgments)
    assert [each.name for each in summary.paradigms] == ["a", "b", "c"]
    x, y = summary.groups["field"]
    assert (x.name, x.mean, x.over_pairs, x.paradigms) == ("x", 0.625, 0.4, 2)
    assert (y.name, y.mean) == ("y", 0)
    assert [each.name for each in summary.groups["kind"]] == ["k"]
    assert summary.overall.mean == pytest.approx((0.25 + 1 + 0) / 3)
    assert summary.overall.over_pairs == pytest.approx(2 / 6)
    text = "\n".join(pairs_table(summary, "word"))
    assert "mean over 3 paradigms 41.7; over all pairs 33.3" in text
    assert "kind" not in text  # a section with one row


def test_table_fits_narrow_and_ascii_terminals() -> None:
    names = [
        "a_very_long_name_of_a_paradigm_that_ends_in_1",
        "漢字の長い名前の例題の集合の一番",
        "\x1b[31m",
    ]
    judgments = [each for name in names for each in judged(name, {"right": 1, "wrong": 2})]
    lines = pairs_table(summarize(judgments), "word", 70, ascii_only=True)
    assert all(len(line) <= 70 for line in lines)
    assert lines[2].startswith("a_very_long_na~") or "~" in lines[2]
    assert "ends_in_1" in lines[2]
    assert "###  :" in lines[2]
    assert "\x1b" not in "\n".join(lines)


def test_bars_show_shares() -> None:
    assert bar(0) == "     ┊    "
    assert bar(1) == "██████████"
    assert bar(0.5) == "█████┊    "
    assert bar(0.25) == "██▌  ┊    "
    assert bar(0.74, ascii_only=True) == "#######   "
    assert bar(0.12, ascii_only=True) == "#    :    "
    assert all(len(bar(share / 100)) == 10 for share in range(101))
