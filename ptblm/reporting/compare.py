"""Compares runs: what differs in their configs, and their results.

Runs that differ only by the seed can be one row.
"""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ptblm.config.differences import config_differences, config_value
from ptblm.errors import CheckpointError, UsageError
from ptblm.evaluation.bootstrap import RatioInterval
from ptblm.files import os_errors
from ptblm.paths import RUN_HINT
from ptblm.reporting.history import RunHistory, read_run

SEED = "training.seed"

# Keys that change what a run writes, but nothing of its result.
_OUTPUT_KEYS = {
    *("run.checkpoint_every", "run.keep_checkpoints", "run.keep_at"),
    *("run.log_every", "run.tensorboard", "run.histograms"),
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
    """Reads runs, and all runs in directories of runs.

    Raises:
        CheckpointError: if a path is neither.
        ConfigError: if the config of a run is not valid.
    """
    return [read_run(path) for path in _run_directories(paths)]


def _run_directories(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        with os_errors(CheckpointError, where=path, hint=RUN_HINT):
            is_run = (path / "config.yaml").exists()
            configs = [] if is_run else sorted(path.glob("*/config.yaml"))
        yield from [config.parent for config in configs] or [path]


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
    keys = _differing_keys(runs)
    if by_seed:
        keys = [key for key in keys if key != SEED]
        rows = [_seeds_row(group, keys) for group in _groups(runs, keys)]
        first = ["runs", *keys, "n"]
    else:
        rows = [_run_row(run, keys) for run in runs]
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
    """Returns the table with its rows in ascending order of a column; empty cells are last.

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
    for run in runs:
        steps = [(step.step, step.epoch, step._asdict()) for step in run.steps]
        epochs = [(done.step, done.epoch, vars(done)) for done in run.epochs]
        points = [
            (step, epoch, name, value)
            for step, epoch, values in steps + epochs
            for name, value in values.items()
            if name not in ("step", "epoch", "best", "averaged")
        ]
        for step, epoch, name, value in sorted(points, key=lambda point: point[0]):
            is_finite = value is not None and math.isfinite(value)
            yield run.name, step, epoch, name, value if is_finite else None


def _differing_keys(runs: Sequence[RunHistory]) -> list[str]:
    """Returns the keys that are not equal in all configs, in the order of the config."""
    found = {
        key for run in runs for key, _, _ in config_differences(runs[0].config, run.config)
    } - _OUTPUT_KEYS
    order = list(_all_keys(runs))
    return sorted(found, key=order.index)


def _all_keys(runs: Sequence[RunHistory]) -> dict[str, None]:
    keys: dict[str, None] = {}
    for run in runs:
        _add_keys(keys, "", run.config.model_dump())
    return keys


def _add_keys(keys: dict[str, None], prefix: str, section: dict[str, object]) -> None:
    for name, value in section.items():
        keys[f"{prefix}{name}"] = None
        if isinstance(value, dict):
            _add_keys(keys, f"{prefix}{name}.", value)


def _run_row(run: RunHistory, keys: Sequence[str]) -> Row:
    values = {key: config_value(run.config, key) for key in keys}
    results = {name: result(run) for name, result in _RESULTS.items()}
    return {"run": run.name, **values, "parameters": run.parameters, **results, "state": run.state}


def _groups(runs: Sequence[RunHistory], keys: Sequence[str]) -> list[list[RunHistory]]:
    """Returns the runs with equal values of all keys, in the order of their first runs."""
    groups: dict[str, list[RunHistory]] = {}
    for run in runs:
        values = repr([config_value(run.config, key) for key in keys])
        groups.setdefault(values, []).append(run)
    return list(groups.values())


def _seeds_row(runs: Sequence[RunHistory], keys: Sequence[str]) -> Row:
    """Returns the row of runs that differ only by the seed. Unfinished runs are not averaged."""
    finished = [run for run in runs if run.state == "finished"]
    row = _run_row((finished or list(runs))[0], keys)
    unfinished = len(runs) - len(finished)
    state = "finished" if not unfinished else f"{unfinished} of {len(runs)} not finished"
    spreads = {name: _spread(map(result, finished)) for name, result in _RESULTS.items()}
    names = [run.name for run in runs]
    return {**row, "runs": ", ".join(names), "n": len(finished), **spreads, "state": state}


def _spread(values: "Iterator[float | None]") -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, min(known), max(known))
