"""Comparisons of runs: columns, rows, seeds, and the formats of the table."""

import csv
import json
import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.errors import CheckpointError, UsageError
from ptblm.evaluation.bootstrap import RatioInterval
from ptblm.reporting.compare import compare_runs, curves, read_runs, sort_rows
from ptblm.reporting.comparison_formats import (
    csv_lines,
    curves_csv,
    json_document,
    latex_lines,
    markdown_lines,
    ratio_sentences,
    table_lines,
)
from ptblm.reporting.history import RunHistory, StepMetrics
from tests.reporting.records import EPOCH, WORSE_EPOCH


def run(name: str, *overrides: str, test: float | None = 80.0) -> RunHistory:
    """A finished run, or one in progress if it has no test perplexity."""
    steps = [StepMetrics(2, 50, 0.5, 2.0, 1.0, 9.0, 100.0)]
    return RunHistory(
        path=Path("/runs") / name,
        config=load_config("small", list(overrides)),
        steps=steps,
        epochs=[EPOCH, WORSE_EPOCH],
        result={} if test is None else {"test_perplexity": test, "parameters": 1234567},
        environment={},
        state="unfinished" if test is None else "finished",
    )


GRU = run("gru", "model.cell=gru", test=90.0)
SEEDS = [run(f"s{n}", f"training.seed={n}", test=80.0 + n * n) for n in (1, 2, 3)]


def test_columns_are_the_keys_that_differ() -> None:
    other = run("other", "model.dropout=0.5", "training.epochs=20")
    table = compare_runs([run("one"), other])
    keys = ["model.dropout.input", "model.dropout.between", "model.dropout.output"]
    results = ["parameters", "valid", "test", "tokens/s", "hours"]
    assert table.columns == ["run", *keys, "training.epochs", *results]
    assert [row["training.epochs"] for row in table.rows] == [13, 20]
    assert table.rows[1]["test"] == 80.0
    assert table.rows[1]["valid"] == WORSE_EPOCH.valid_perplexity


def test_changed_default_is_a_column() -> None:
    """A key that neither config file names, because the default was another one."""
    other = run("other")
    training = other.config.training.model_copy(update={"max_grad_norm": 10.0})
    config = other.config.model_copy(update={"training": training})
    table = compare_runs([run("one"), replace(other, config=config)])
    assert [row["training.max_grad_norm"] for row in table.rows] == [5.0, 10.0]


def test_variants_are_compared_by_name_and_option() -> None:
    table = compare_runs([run("one"), GRU, run("bias", "model.cell.forget_bias=1")])
    assert [row["model.cell"] for row in table.rows] == ["lstm", "gru", "lstm"]
    assert [row["model.cell.forget_bias"] for row in table.rows] == [0.0, None, 1.0]


def test_options_of_a_variant_are_compared_with_each_other() -> None:
    """Also if the first run has another variant."""
    before = run("before", "model.cell={type: gru, reset_gate: before}", "training.seed=2")
    runs = [run("lstm"), GRU, before, run("sgd", "training.schedule=constant")]
    table = compare_runs(runs, by_seed=True)
    keys = ["model.cell", "model.cell.reset_gate", "training.schedule"]
    assert table.columns[1:4] == keys
    assert [row["runs"] for row in table.rows] == ["lstm", "gru", "before", "sgd"]
    assert [row["model.cell.reset_gate"] for row in table.rows] == [None, "after", "before", None]


def test_runs_with_equal_names_show_their_parents() -> None:
    runs = [run("x/small"), run("y/small", "training.seed=2"), run("y/gru")]
    assert [row["run"] for row in compare_runs(runs).rows] == ["x/small", "y/small", "y/gru"]
    assert compare_runs(runs, by_seed=True).rows[0]["runs"] == "x/small, y/small, y/gru"
    assert {point[0] for point in curves(runs)} == {"x/small", "y/small", "y/gru"}


def test_keys_of_the_output_are_no_columns() -> None:
    table = compare_runs([run("one"), run("two", "run.log_every=7", "run.keep_at=[1M]")])
    assert table.columns[:2] == ["run", "parameters"]


def test_seeds_fold_to_mean_sd_and_range() -> None:
    table = compare_runs([SEEDS[0], GRU, *SEEDS[1:]], by_seed=True)
    assert [row["runs"] for row in table.rows] == ["s1, s2, s3", "gru"]
    folded = table.rows[0]
    values = [81.0, 84.0, 89.0]
    expected = (statistics.mean(values), statistics.stdev(values), 81.0, 89.0)
    assert folded["test"] == pytest.approx(expected)
    assert [row["n"] for row in table.rows] == [3, 1]
    assert "training.seed" not in table.columns


def test_unfinished_runs_are_marked_and_not_averaged() -> None:
    unfinished = run("s4", "training.seed=4", test=None)
    plain = compare_runs([SEEDS[0], unfinished])
    assert [row["state"] for row in plain.rows] == ["finished", "unfinished"]
    (row,) = compare_runs([*SEEDS, unfinished], by_seed=True).rows
    assert (row["n"], row["state"]) == (3, "1 of 4 not finished")


def test_rows_are_sorted_by_any_column() -> None:
    table = compare_runs([run("x", test=None), GRU, SEEDS[0]])
    assert [row["run"] for row in sort_rows(table, "test").rows] == ["s1", "gru", "x"]
    assert [row["run"] for row in sort_rows(table, "cell").rows] == ["gru", "s1", "x"]
    assert [row["run"] for row in sort_rows(table, "valid").rows] == ["gru", "s1", "x"]
    folded = sort_rows(compare_runs([run("x", test=None), *SEEDS, GRU], by_seed=True), "n")
    assert [row["n"] for row in folded.rows] == [1, 3]
    with pytest.raises(UsageError, match="no column loss"):
        sort_rows(table, "loss")


def test_table_turns_if_the_terminal_is_narrow() -> None:
    table = compare_runs([SEEDS[0], GRU])
    wide = table_lines(table, 80)
    assert wide[0] == "run  cell  seed  parameters  valid   test  tokens/s  hours"
    assert wide[2].split()[:4] == ["gru", "gru", "0", "1,234,567"]
    narrow = table_lines(table, 40)
    assert narrow[0].split() == ["run", "s1", "gru"]
    assert ["test", "81.00", "90.00"] in [line.split() for line in narrow]
    listed = table_lines(table, 15)
    assert listed[0].split() == ["run", "s1"]
    assert "" in listed


def test_latex_table_has_escaped_names() -> None:
    odd = run("a_b&c%", "model.cell=gru", test=90.0)
    assert latex_lines(compare_runs([*SEEDS, odd], by_seed=True)) == [
        r"\begin{tabular}{llrrrrrr}",
        r"\toprule",
        r"runs & cell & n & parameters & valid & test & tokens/s & hours \\",
        r"\midrule",
        r"s1, s2, s3 & lstm & 3 & 1,234,567 & 8.00 $\pm$ 0.00 (8.00 to 8.00) & "
        r"84.67 $\pm$ 4.04 (81.00 to 89.00) & 1,000 & 0.005 \\",
        r"a\_b\&c\% & gru & 1 & 1,234,567 & 8.00 & 90.00 & 1,000 & 0.005 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_row_does_not_start_with_an_argument() -> None:
    r"""`\\\\` takes a following `[...]` as a length, and a following `*` too."""
    rows = latex_lines(compare_runs([run("[1]"), run("*x"), run("<a|b>")]))[4:7]
    names = ["{[}1]", "{*}x", r"\textless{}a\textbar{}b\textgreater{}"]
    assert [row.partition(" & ")[0] for row in rows] == names


def test_markdown_table_has_escaped_names() -> None:
    lines = markdown_lines(compare_runs([run("a|b*\x1b")]))
    assert lines[1] == "| --- | ---: | ---: | ---: | ---: | ---: |"
    assert lines[2].startswith(r"| a\|b\*\\x1b | 1,234,567 |")


def test_csv_and_json_have_all_digits() -> None:
    table = compare_runs(SEEDS, by_seed=True)
    (row,) = csv.DictReader(csv_lines(table))
    assert row["runs"] == "s1, s2, s3"
    assert float(row["test_sd"]) == statistics.stdev([81.0, 84.0, 89.0])
    assert json.loads(json.dumps(json_document(table)))["rows"][0]["test_high"] == 89.0


def test_ratio_is_a_sentence_or_columns() -> None:
    ratios = [RatioInterval(0.969, 0.96, 0.978, 3761), RatioInterval(1.0, 1.0, 1.0, 3761)]
    table = compare_runs(SEEDS[:2], ratios=ratios)
    document = json_document(table, "valid")
    assert (document["split"], document["rows"][0]["ratio"]) == ("valid", 0.969)
    assert "split" not in json_document(compare_runs(SEEDS[:2]))
    assert ratio_sentences(table, "medium", "test") == [
        "test perplexity of s1: 3.1% lower than that of medium "
        "(95% interval -4.0% to -2.2%, 3,761 sentences)",
        "test perplexity of s2: equal to that of medium "
        "(95% interval +0.0% to +0.0%, 3,761 sentences)",
    ]
    row = next(csv.DictReader(csv_lines(table)))
    assert [row[name] for name in ("ratio", "ratio_low", "ratio_high")] == [
        "0.969",
        "0.96",
        "0.978",
    ]


def test_curves_are_a_long_table() -> None:
    broken = replace(GRU, steps=[StepMetrics(1, 9, 0.5, float("nan"), None, 9.0, 100.0)])
    rows = list(csv.DictReader(curves_csv(curves([SEEDS[0], broken]))))
    assert {"run": "s1", "step": "50", "epoch": "2", "name": "nll", "value": "2.0"} in rows
    found = {(row["run"], row["step"], row["name"]): row["value"] for row in rows}
    assert found["s1", "100", "valid_perplexity"] == "4.0"
    order = [int(row["step"]) for row in rows if row["run"] == "s1"]
    assert order == sorted(order)
    assert found["gru", "9", "nll"] == found["gru", "9", "grad_norm"] == ""


def test_directory_of_runs_stands_for_its_runs(tmp_path: Path, finished_run: Path) -> None:
    for name in ("b", "a"):
        shutil.copytree(finished_run, tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert [run.name for run in read_runs([tmp_path, finished_run])] == ["a", "b", "run"]
    with pytest.raises(CheckpointError, match="no run in this directory"):
        read_runs([tmp_path / "empty"])


def test_run_that_is_named_twice_is_read_once(tmp_path: Path, finished_run: Path) -> None:
    (tmp_path / "link").symlink_to(finished_run)
    again = [finished_run, tmp_path, finished_run.parent / "." / finished_run.name]
    assert [run.path for run in read_runs(again)] == [finished_run]
    shutil.copytree(finished_run, tmp_path / "other")
    mixed = [finished_run, tmp_path / "other", tmp_path / "link"]
    assert [run.name for run in read_runs(mixed)] == ["run", "other"]
