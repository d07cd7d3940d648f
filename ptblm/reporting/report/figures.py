"""What a report draws from the records of runs: curves, and the tables with the same values."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ptblm.evaluation.analysis import ModelAnalysis
from ptblm.reporting.history import RunHistory, StepMetrics
from ptblm.reporting.report.charts import Axis, Point, Series, heat_map, line_chart
from ptblm.reporting.timeline import timeline
from ptblm.terminal import escape

_MAX_ROWS = 60
_MAX_TOKEN = 40  # characters


class Figure(NamedTuple):
    """A chart, and a table with its values.

    Attributes:
        title: the title.
        svg: the chart.
        legend: label, number of the color, and whether the line is dashed, for each line.
        head: the names of the columns of the table.
        rows: the rows of the table; every n-th row if there are many.
    """

    title: str
    svg: str
    legend: list[tuple[str, int, bool]]
    head: list[str]
    rows: list[list[str]]


def figures_of_runs(runs: Sequence[RunHistory], labels: Sequence[str]) -> list[Figure]:
    """Returns the learning curves, the learning rate, the gradient norm and the speed of runs."""
    found = [
        _perplexity(runs, labels),
        _steps("Learning rate", runs, labels, "learning rate", lambda step: step.learning_rate),
        _gradient_norm(runs, labels),
        _speed(runs, labels),
    ]
    return [figure for figure in found if figure.svg]


def calibration_figure(analysis: ModelAnalysis) -> Figure:
    """Returns how often predictions of each probability came true."""
    bins = [each for each in analysis.calibration if each.predictions]
    points = [(each.mean_probability, each.frequency) for each in bins]
    ends = [p for p, _ in points]
    diagonal = [(min(ends), min(ends)), (max(ends), max(ends))] if ends else []
    series = [Series("predictions", points, 0), Series("calibrated", diagonal, 1, dashed=True)]
    rows = [
        [f"{each.mean_probability:.3g}", f"{each.frequency:.3g}", f"{each.predictions:,}"]
        for each in bins
    ]
    head = ["predicted probability", "share that came true", "predictions"]
    x, y = Axis("predicted probability", log=True), Axis("share that came true", log=True)
    return _figure("Calibration", series, x, y, head, rows)


def gate_figures(analysis: ModelAnalysis) -> list[Figure]:
    """Returns the activations of the gates along a line."""
    tokens = [escape(token[:_MAX_TOKEN]) for token in analysis.gate_tokens]
    return [
        Figure(
            title := f"Layer {each.layer}, {each.gate} gate",
            heat_map(title, tokens, each.values),
            [],
            ["token", *(f"unit {unit}" for unit in each.units)],
            [
                [token, *(f"{value:.2f}" for value in values)]
                for token, values in zip(tokens, each.values, strict=True)
            ],
        )
        for each in analysis.gates
    ]


def _perplexity(runs: Sequence[RunHistory], labels: Sequence[str]) -> Figure:
    series, rows = [], []
    for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
        train = [(done.epoch, done.train_perplexity) for done in run.epochs]
        valid = [(done.epoch, done.valid_perplexity) for done in run.epochs]
        best = run.best
        star = None if best is None else (float(best.epoch), best.valid_perplexity)
        series.append(Series(f"{label}, train", train, number, dashed=True))
        series.append(Series(f"{label}, valid", valid, number, star=star))
        rows += [
            [label, str(done.epoch), _two(done.train_perplexity), _two(done.valid_perplexity)]
            for done in run.epochs
        ]
    head = ["run", "epoch", "train perplexity", "valid perplexity"]
    x, y = Axis("epoch", whole=True), Axis("perplexity", log=True)
    return _figure("Perplexity", series, x, y, head, rows)


def _gradient_norm(runs: Sequence[RunHistory], labels: Sequence[str]) -> Figure:
    return _steps(
        "Gradient norm",
        runs,
        labels,
        "gradient norm before clipping",
        lambda step: math.nan if step.grad_norm is None else step.grad_norm,
        limit=lambda run: run.config.training.max_grad_norm,
        log=True,
    )


def _speed(runs: Sequence[RunHistory], labels: Sequence[str]) -> Figure:
    return _steps("Speed", runs, labels, "tokens per second", lambda step: step.tokens_per_second)


def _steps(
    title: str,
    runs: Sequence[RunHistory],
    labels: Sequence[str],
    name: str,
    value: Callable[[StepMetrics], float],
    *,
    limit: Callable[[RunHistory], float] | None = None,
    log: bool = False,
) -> Figure:
    """Returns a figure of a value of each recorded step, and optionally of a limit."""
    series, rows = [], []
    for number, (run, label) in enumerate(zip(runs, labels, strict=True)):
        places, _ = timeline(run)
        points: list[Point] = [
            (place.steps, value(step)) for place, step in zip(places, run.steps, strict=True)
        ]
        series.append(Series(label, points, number))
        if limit is not None and points:
            ends = [(points[0][0], limit(run)), (points[-1][0], limit(run))]
            series.append(
                Series(f"{label}, clipped above {limit(run):g}", ends, number, dashed=True)
            )
        rows += [[label, f"{a:,.0f}", f"{b:.6g}"] for a, b in points]
    return _figure(
        title,
        series,
        Axis("step", whole=True),
        Axis(name, log=log, zero=not log),
        ["run", "step", name],
        rows,
    )


def _figure(
    title: str,
    series: Sequence[Series],
    x: Axis,
    y: Axis,
    head: list[str],
    rows: list[list[str]],
) -> Figure:
    legend = [(each.label, each.color, each.dashed) for each in series if each.points]
    thinned = rows[:: -(-len(rows) // _MAX_ROWS) or 1]
    return Figure(title, line_chart(title, series, x, y), legend, head, thinned)


def _two(value: float) -> str:
    return f"{value:.2f}"
