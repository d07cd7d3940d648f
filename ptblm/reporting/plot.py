"""Draws the learning curves of runs with Matplotlib, in the width of a column of a paper."""

import io
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ptblm.errors import CheckpointError, UsageError
from ptblm.reporting.history import RunHistory, read_run
from ptblm.reporting.plot_panels import COLORS, MARKERS, PANELS, Curves, run_line
from ptblm.reporting.run_labels import run_labels
from ptblm.reporting.timeline import Axis, timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

Form = Literal["png", "svg", "pdf"]
FORMS: tuple[Form, ...] = ("png", "svg", "pdf")

_WIDTH = 3.5  # inches: a column of most two-column layouts
_HEIGHTS = {"perplexity": 2.0, "learning-rate": 1.0, "gradient-norm": 1.2, "speed": 1.0}  # inches
_LEGEND_ROW = 0.14  # inches
_SHORT_LABEL = 18  # characters; two such labels fit next to each other

_X_LABELS: dict[Axis, str] = {
    "steps": "step",
    "epochs": "epoch",
    "tokens": "training tokens (millions)",
    "hours": "training time (hours)",
}

# Names of runs are never parsed as mathematics. A fixed salt gives the same SVG for the same runs.
_STYLE = {
    "text.parse_math": False,
    "text.usetex": False,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],  # Matplotlib contains the first
    "font.size": 7,
    "axes.linewidth": 0.6,
    "axes.labelsize": 7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.2,
    "legend.borderpad": 0.2,
    "legend.borderaxespad": 0.1,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "agg.path.chunksize": 10_000,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "ptblm",
    "pdf.fonttype": 42,
}
# Without dates and versions, the same runs give the same bytes.
_METADATA: dict[Form, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@contextmanager
def plotting() -> Iterator[None]:
    """Uses the style of ptblm in the block, instead of the user's settings of Matplotlib.

    Raises:
        UsageError: if Matplotlib is not installed.
    """
    try:
        from matplotlib import style
    except ImportError:
        raise UsageError(
            "plots require the matplotlib package", hint="pip install 'ptblm[plot]'"
        ) from None
    with style.context(["default", _STYLE]), warnings.catch_warnings():
        # Matplotlib warns about characters that its font lacks. It draws a box for each.
        warnings.simplefilter("ignore", UserWarning)
        yield


def read_recorded_runs(paths: Sequence[Path]) -> list[RunHistory]:
    """Reads runs, without those that have not recorded anything yet.

    Raises:
        CheckpointError: if a path is not a run, or no run has recorded anything.
        ConfigError: if a config is not valid.
    """
    found = [read_run(path) for path in paths]
    recorded = [run for run in found if run.steps or run.epochs]
    for run in found:
        if not recorded:
            raise CheckpointError(
                "nothing to plot: no step or epoch is recorded yet",
                where=str(run.path),
                hint="wait for the first record, or lower run.log_every in the next run",
            )
        if not (run.steps or run.epochs):
            logger.warning(f"{run.path}: no step or epoch is recorded yet; the run is left out")
    return recorded


def plot_runs(
    runs: Sequence[RunHistory], panels: Sequence[str] | None = None, axis: Axis = "steps"
) -> "Figure":
    """Draws runs over each other, in panels with a common x-axis.

    Args:
        runs: one to eight runs.
        panels: names of `PANELS`, from top to bottom; None for all.
        axis: the unit of the x-axis.

    Raises:
        UsageError: if Matplotlib is not installed.
    """
    names = list(PANELS if panels is None else panels)
    labels = run_labels(runs)
    columns = 2 if max(map(len, labels)) <= _SHORT_LABEL else 1
    title_rows = math.ceil(len(runs) / columns)
    heights = [_HEIGHTS[name] for name in names]
    with plotting():
        from matplotlib.figure import Figure

        size = (_WIDTH, sum(heights) + 0.3 + title_rows * _LEGEND_ROW)
        figure = Figure(size, layout="constrained")
        grid = figure.subplots(len(names), sharex=True, squeeze=False, height_ratios=heights)
        curves = [_curves(run, axis, number, len(runs)) for number, run in enumerate(runs)]
        for name, axes in zip(names, grid.flat, strict=True):
            PANELS[name](axes, curves)
            if not axes.lines:
                middle = {"ha": "center", "va": "center", "transform": axes.transAxes}
                axes.text(0.5, 0.5, "not recorded", **middle)
        _label_x_axis(grid.flat[-1], axis)
        figure.align_ylabels()
        if len(runs) == 1:
            figure.suptitle(labels[0], fontsize=7)
        else:
            figure.legend(
                handles=[run_line(each) for each in curves],
                labels=labels,
                loc="outside upper center",
                ncols=columns,
            )
    return figure


def render(figure: "Figure", form: Form) -> bytes:
    """Returns the content of a file with the figure; the same runs give the same bytes."""
    content = io.BytesIO()
    with plotting():
        figure.savefig(content, format=form, metadata=_METADATA[form])
    return content.getvalue()


def _curves(run: RunHistory, axis: Axis, number: int, count: int) -> Curves:
    steps, epochs = timeline(run)
    if axis == "epochs" and not epochs:
        logger.warning(f"{run.path}: no epoch is complete yet; plot its steps with --x steps")
    return Curves(
        run,
        steps=[getattr(position, axis) for position in steps],
        epochs=[getattr(position, axis) for position in epochs],
        color=COLORS[number],
        train_color=COLORS[1 if count == 1 else number],
        marker=MARKERS[number],
        offset=number / count,
        is_single=count == 1,
    )


def _label_x_axis(axes: "Axes", axis: Axis) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlabel(_X_LABELS[axis])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=axis in ("steps", "epochs")))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
