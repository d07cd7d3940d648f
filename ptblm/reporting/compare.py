"""Compares runs: what differs in their configs, and their results.

Runs that differ only by the seed can be one row.
"""

import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ptblm.config.differences import config_value, differing_keys
from ptblm.errors import CheckpointError, UsageError
from ptblm.evaluation.bootstrap import RatioInterval
from ptblm.files import os_errors
from ptblm.paths import RUN_HINT
from ptblm.reporting.history import RunHistory, StepMetrics, read_run
from ptblm.training.records import EpochDone

SEED = "training.seed"

# Keys that change what a run writes, but nothing of its result.
_OUTPUT_KEYS = {
    *("run.checkpoint_every", "run.keep_checkpoints", "run.keep_at"),
    *("run.log_every", "run.test", "run.tensorboard", "run.histograms"),
}


class Spread(NamedTuple):
    """Values of runs with different seeds.

    Attributes:
        mean: their mean.
        sd: their standard deviation, with n - 1; None for a single value.
        low: the smallest value.
        high: the largest value.
    """

    mean: float
    sd: float | None
    low: float
    high: float


Cell = object  # None, a value of a config key, a number, a Spread or a RatioInterval
Row = dict[str, Cell]
_NamedRun = tuple[str, RunHistory]

# The results of a run, by the name of their column.
_RESULTS: dict[str, Callable[[RunHistory], float | None]] = {
    "valid": lambda run: run.valid_perplexity,
    "test": lambda run: run.test_perplexity,
    "tokens/s": lambda run: run.tokens_per_second,
    "hours": lambda run: run.hours if run.epochs else None,
}


class Comparison(NamedTuple):
    """A table of runs.

    Attributes:
        columns: the names of the columns: "run" or "runs", config keys, and results.
        rows: the cells of each row, by column.
    """

    columns: list[str]
    rows: list[Row]


def read_runs(paths: Sequence[Path]) -> list[RunHistory]:
    """Reads runs, and all runs in directories of runs. A run that is named twice is read once.

    Raises:
        CheckpointError: if a path is neither.
        ConfigError: if the config of a run is not valid.
    """
    found: dict[str, Path] = {}
    for path in _run_directories(paths):
        found.setdefault(os.path.realpath(path), path)
    return [read_run(path) for path in found.values()]


def _run_directories(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        with os_errors(CheckpointError, where=path, hint=RUN_HINT):
            is_run = (path / "config.yaml").exists()
            configs = [] if is_run else sorted(path.glob("*/config.yaml"))
        yield from [config.parent for config in configs] or [path]


def run_names(runs: Sequence[RunHistory]) -> list[str]:
    """Returns the names of run directories, with as many parents as make them unique."""
    paths = [run.path.parts for run in runs]
    for length in range(1, max(map(len, paths), default=0) + 1):
        names = [os.path.join(*parts[-length:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    return [str(run.path) for run in runs]


def compare_runs(
    runs: Sequence[RunHistory],
    *,
    by_seed: bool = False,
    ratios: Sequence[RatioInterval] | None = None,
) -> Comparison:
    """Returns a table of runs.

    Args:
        runs: the runs.
        by_seed: whether runs that differ only by the seed become one row.
        ratios: the ratio of the perplexity of each run to that of another run.
    """
    hidden = {*_OUTPUT_KEYS, SEED} if by_seed else _OUTPUT_KEYS
    keys = [key for key in differing_keys([run.config for run in runs]) if key not in hidden]
    named = list(zip(run_names(runs), runs, strict=True))
    if by_seed:
        rows = [_seeds_row(group, keys) for group in _groups(named, keys)]
        first = ["runs", *keys, "n"]
    else:
        rows = [_run_row(name, run, keys) for name, run in named]
        first = ["run", *keys]
    columns = [*first, "parameters", *_RESULTS]
    if ratios is not None:
        columns.append("ratio")
        for row, ratio in zip(rows, ratios, strict=True):
            row["ratio"] = ratio
    if any(run.state != "finished" for run in runs):
        columns.append("state")
    return Comparison(columns, rows)


def sort_rows(comparison: Comparison, by: str) -> Comparison:
    """Returns the table with its rows in ascending order of a column.

    Empty cells are last, and after them rows without a finished run.

    Args:
        comparison: the table.
        by: name of the column, or its last part, such as "hidden_size".

    Raises:
        UsageError: if there is no such column.
    """
    ends = [name for name in comparison.columns if name == by or name.endswith(f".{by}")]
    if len(ends) != 1:
        raise UsageError(
            f"--sort: no column {by}" if not ends else f"--sort: {by} stands for several columns",
            hint=f"pass one of {', '.join(comparison.columns)}",
        )

    def place(row: Row) -> tuple[int, float, str]:
        if row["state"] in ("unfinished", "diverged") or row.get("n") == 0:
            return 3, 0.0, ""
        value = row[ends[0]]
        if isinstance(value, Spread | RatioInterval):
            value = value[0]
        if isinstance(value, int | float) and not math.isnan(value):
            return 0, float(value), ""
        return (2, 0.0, "") if value is None or isinstance(value, float) else (1, 0.0, str(value))

    return comparison._replace(rows=sorted(comparison.rows, key=place))


def curves(runs: Sequence[RunHistory]) -> Iterator[tuple[str, int, int, str, float | None]]:
    """Yields the recorded curves of runs as (run, step, epoch, name, value), ordered by step.

    The names are those of metrics.jsonl. A value that is not finite is None.
    """
    for run_name, run in zip(run_names(runs), runs, strict=True):
        records: list[StepMetrics | EpochDone] = [*run.steps, *run.epochs]
        for record in sorted(records, key=lambda record: record.step):
            values = record._asdict() if isinstance(record, StepMetrics) else vars(record)
            for name, value in values.items():
                if name not in ("step", "epoch", "best", "averaged"):
                    is_finite = value is not None and math.isfinite(value)
                    yield run_name, record.step, record.epoch, name, value if is_finite else None


def _run_row(name: str, run: RunHistory, keys: Sequence[str]) -> Row:
    values = {key: config_value(run.config, key) for key in keys}
    results = {column: result(run) for column, result in _RESULTS.items()}
    return {"run": name, **values, "parameters": run.parameters, **results, "state": run.state}


def _groups(runs: Sequence[_NamedRun], keys: Sequence[str]) -> list[list[_NamedRun]]:
    """Returns the runs with equal values of all keys, in the order of their first runs."""
    groups: dict[str, list[_NamedRun]] = {}
    for name, run in runs:
        values = repr([config_value(run.config, key) for key in keys])
        groups.setdefault(values, []).append((name, run))
    return list(groups.values())


def _seeds_row(named: Sequence[_NamedRun], keys: Sequence[str]) -> Row:
    """Returns the row of runs that differ only by the seed. Unfinished runs are not averaged."""
    finished = [run for _, run in named if run.state == "finished"]
    names = ", ".join(name for name, _ in named)
    row = _run_row(names, (finished or [run for _, run in named])[0], keys)
    unfinished = len(named) - len(finished)
    state = "finished" if not unfinished else f"{unfinished} of {len(named)} not finished"
    spreads = {name: _spread(map(result, finished)) for name, result in _RESULTS.items()}
    return {**row, "runs": names, "n": len(finished), **spreads, "state": state}


def _spread(values: "Iterator[float | None]") -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, min(known), max(known))
