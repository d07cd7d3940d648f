"""Draws a sweep: the perplexity of its trials over time, and against the value of each key."""

import math
from typing import TYPE_CHECKING, Any

from ptblm.errors import CheckpointError
from ptblm.reporting.plot import plotting
from ptblm.reporting.plot_panels import COLORS
from ptblm.reporting.run_labels import short_names
from ptblm.reporting.sweep import SweepSummary, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH, _HEIGHT = 2.2, 1.7  # inches of a panel
_COLUMNS = 3
_MAX_PANELS = 12
_LARGEST = 1e30  # perplexities beyond are left out
_STYLES: dict[str, dict[str, Any]] = {
    "finished": {"color": COLORS[0], "marker": "o"},
    "pruned": {"color": COLORS[7], "marker": "x"},
    "running": {"color": COLORS[1], "marker": "^"},
}


def plot_sweep(summary: SweepSummary) -> "Figure":
    """Draws the trials of a sweep.

    Raises:
        CheckpointError: if no epoch of any trial is complete.
        UsageError: if Matplotlib is not installed.
    """
    shown = [each for each in summary.trials if _valid(each) < _LARGEST and each.state in _STYLES]
    if not shown:
        raise CheckpointError("nothing to plot: no epoch of a trial is complete yet")
    keys = summary.keys[: _MAX_PANELS - 1]
    rows = math.ceil((len(keys) + 1) / _COLUMNS)
    columns = min(_COLUMNS, len(keys) + 1)
    with plotting():
        from matplotlib.figure import Figure

        figure = Figure((_WIDTH * columns, _HEIGHT * rows + 0.3), layout="constrained")
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        _draw_history(panels[0], shown)
        for axes, key, name in zip(panels[1:], keys, short_names(keys), strict=False):
            _draw_key(axes, summary, shown, key)
            axes.set_xlabel(name)
        for axes in panels[: len(keys) + 1]:
            axes.set_yscale("log")
            axes.set_ylabel("valid perplexity")
            axes.minorticks_off()
            _label_ticks(axes, list(map(_valid, shown)))
        for axes in panels[len(keys) + 1 :]:
            axes.remove()
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return figure


def _valid(trial: Trial) -> float:
    """Returns the valid perplexity of a trial; infinity if it cannot be drawn."""
    return trial.valid if trial.valid is not None and 0 < trial.valid < _LARGEST else math.inf


def _draw_history(axes: "Axes", trials: list[Trial]) -> None:
    """Draws the trials over the time of their start, and the best finished one so far."""
    for state, style in _STYLES.items():
        of_state = [trial for trial in trials if trial.state == state]
        if of_state:
            axes.scatter(_hours(of_state), list(map(_valid, of_state)), s=9, label=state, **style)
    best: list[float] = []
    finished = sorted((t for t in trials if t.state == "finished"), key=lambda t: t.start or 0)
    for trial in finished:
        best.append(min([*best[-1:], _valid(trial)]))
    if best:
        axes.step(_hours(finished), best, where="post", color=COLORS[0], label="best")
    axes.set_xlabel("start of the trial (hours)")


def _hours(trials: list[Trial]) -> list[float]:
    return [(trial.start or 0.0) / 3600 for trial in trials]


def _draw_key(axes: "Axes", summary: SweepSummary, trials: list[Trial], key: str) -> None:
    """Draws the trials against the value of a key; the choices of a list in their order."""
    having = [trial for trial in trials if key in trial.values]
    scale = summary.scales.get(key)
    choices = list(dict.fromkeys(str(trial.values[key]) for trial in having))
    for state, style in _STYLES.items():
        of_state = [trial for trial in having if trial.state == state]
        values = [trial.values[key] for trial in of_state]
        places = values if scale else [choices.index(str(value)) for value in values]
        axes.scatter(places, list(map(_valid, of_state)), s=9, **style)
    if scale is None:
        axes.set_xticks(range(len(choices)), [choice[:12] for choice in choices])
    elif scale[2]:
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes.set_xscale("log")
        axes.xaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if scale[1] < 100 * scale[0] else (1,), numticks=6)
        )
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))


def _label_ticks(axes: "Axes", values: list[float]) -> None:
    """Labels the logarithmic axis of perplexities with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    if max(values) < 4 * min(values):
        axes.yaxis.set_major_locator(MaxNLocator(5))
    else:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.4g}"))
