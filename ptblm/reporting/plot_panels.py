"""The panels of a plot: perplexity, learning rate, gradient norm and speed.

The colors are those of Okabe and Ito (2008), which color-blind readers can distinguish; gray
replaces yellow, which is too light for lines. Markers identify a run too, and line styles a split,
so that a print in grayscale is legible.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptblm.config.unknown_keys import closest
from ptblm.errors import UsageError
from ptblm.reporting.history import RunHistory, StepMetrics
from ptblm.training.records import EpochDone, best_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

COLORS = ["#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9", "#767676"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "<"]
_LIGHT, _DARK = "#BBBBBB", "#444444"
_MARKERS_OF_LINE = 12  # at least, if it has as many points
_LEGEND_SIZE = 44  # characters of four labels that fit in a row

# Values beyond are left out, as NaN is, because the ticks of an axis would overflow.
_LARGEST = 1e30


@dataclass(frozen=True)
class Curves:
    """A run, the x-coordinates of its records, and its style.

    Attributes:
        run: the run.
        steps: x-coordinates of the recorded steps.
        epochs: x-coordinates of the ends of the epochs.
        color: the color of the run.
        train_color: the color of its training perplexity.
        marker: the marker of the run.
        offset: which part of the distance between two markers comes before the first, so that
            equal lines show the markers of all runs.
        is_single: whether no other run is drawn.
    """

    run: RunHistory
    steps: Sequence[float]
    epochs: Sequence[float]
    color: str
    train_color: str
    marker: str
    offset: float
    is_single: bool


def clip_rate(run: RunHistory) -> float | None:
    """Returns the share of the recorded steps whose gradient was clipped; None without steps."""
    norms = [step.grad_norm for step in run.steps if step.grad_norm is not None]
    clipped = sum(norm > run.config.training.max_grad_norm for norm in norms)
    return clipped / len(norms) if norms else None


def run_line(curves: Curves) -> "Line2D":
    """Returns the line of a run in a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], color=curves.color, marker=curves.marker)


def _draw_perplexity(axes: "Axes", all_curves: Sequence[Curves]) -> None:
    """Draws perplexities per epoch. A single run, or one in its first epoch, also has its steps."""
    axes.set_ylabel("perplexity")
    _use_log_scale(axes)
    for each in all_curves:
        epochs = each.run.epochs
        if each.is_single or not epochs:
            values = [_perplexity(step.nll) for step in each.run.steps]
            style = {"color": _LIGHT if each.is_single else each.color, "linewidth": 0.7}
            _draw(axes, each.steps, values, label="train, steps", **style)
        if epochs:
            train = [done.train_perplexity for done in epochs]
            style = {"color": each.train_color, "linestyle": "--", "markerfacecolor": "white"}
            _draw_marked(axes, each, each.epochs, train, label="train", **style)
            valid = [done.valid_perplexity for done in epochs]
            _draw_marked(axes, each, each.epochs, valid, label="valid", color=each.color)
    for each in all_curves:
        _mark_best(axes, each)
    for bound in sorted(set(filter(None, map(_valid_bound, all_curves)))):
        axes.axhline(bound, color=_DARK, linestyle=":", label=f"entropy bound {bound:.4g}")
    by_label = {line.get_label(): line for line in axes.lines}  # each run has the same labels
    is_single = len(all_curves) == 1
    _add_legend(axes, [line if is_single else _without_run(line) for line in by_label.values()])


def _mark_best(axes: "Axes", curves: Curves) -> None:
    """Marks the epoch with the lowest validation perplexity with a star."""
    finite = [done for done in curves.run.epochs if _is_positive(done.valid_perplexity)]
    if not finite:
        return
    best = best_epoch(finite)
    value = best.valid_perplexity
    x = next(x for x, done in zip(curves.epochs, curves.run.epochs, strict=True) if done is best)
    label = f"best: {value:.4g}, epoch {best.epoch}" if curves.is_single else "best epoch"
    style = {"color": curves.color, "marker": "*", "markersize": 9, "markeredgecolor": "white"}
    _draw(axes, [x], [value], label=label, linestyle="", markeredgewidth=0.6, zorder=3, **style)


def _draw_learning_rate(axes: "Axes", all_curves: Sequence[Curves]) -> None:
    axes.set_ylabel("learning rate")
    for each in all_curves:
        x, records = _steps_or_epochs(each)
        values = [record.learning_rate for record in records]
        _draw_marked(axes, each, x, values, color=each.color)
    _start_at_zero(axes)


def _draw_gradient_norm(axes: "Axes", all_curves: Sequence[Curves]) -> None:
    """Draws norms before clipping; the legend contains the share of recorded steps clipped."""
    axes.set_ylabel("gradient norm")
    _use_log_scale(axes)
    for each in all_curves:
        norms = [math.nan if step.grad_norm is None else step.grad_norm for step in each.run.steps]
        rate = clip_rate(each.run)
        if rate is not None:
            label = f"{rate:.0%} of steps clipped" if each.is_single else f"{rate:.0%} clipped"
            _draw_marked(
                axes, each, each.steps, norms, color=each.color, linewidth=0.8, label=label
            )
    for threshold in sorted({each.run.config.training.max_grad_norm for each in all_curves}):
        if axes.lines and _is_positive(threshold):
            label = f"threshold {threshold:g}"
            axes.axhline(threshold, color=_DARK, linestyle=":", label=label)
    _add_legend(axes, list(axes.lines))


def _draw_speed(axes: "Axes", all_curves: Sequence[Curves]) -> None:
    from matplotlib.ticker import FuncFormatter

    axes.set_ylabel("tokens/s")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    for each in all_curves:
        x, records = _steps_or_epochs(each)
        values = [record.tokens_per_second for record in records]
        _draw_marked(axes, each, x, values, color=each.color)
    _start_at_zero(axes)


PANELS: dict[str, Callable[["Axes", Sequence[Curves]], None]] = {
    "perplexity": _draw_perplexity,
    "learning-rate": _draw_learning_rate,
    "gradient-norm": _draw_gradient_norm,
    "speed": _draw_speed,
}


def panel_names(text: str) -> list[str]:
    """Returns the names of panels in a text such as "perplexity,speed".

    Raises:
        UsageError: if there is no such panel, or a name occurs twice.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        hint = f"the panels are {', '.join(PANELS)}"
        if name not in PANELS:
            guess = closest(name, PANELS)
            guessed = f", did you mean '{guess}'?" if guess else ""
            raise UsageError(f"--panels: no panel '{name}'{guessed}", hint=hint)
        if names.count(name) > 1:
            raise UsageError(f"--panels: '{name}' occurs twice", hint=hint)
    return names


def _steps_or_epochs(
    curves: Curves,
) -> tuple[Sequence[float], Sequence[StepMetrics] | Sequence[EpochDone]]:
    """Returns the recorded steps, or the epochs of a run that is too short for recorded steps."""
    run = curves.run
    return (curves.steps, run.steps) if run.steps else (curves.epochs, run.epochs)


def _draw_marked(
    axes: "Axes", curves: Curves, x: Sequence[float], y: Sequence[float], **style: Any
) -> None:
    """Draws a line with some markers of the run."""
    every = max(1, len(x) // _MARKERS_OF_LINE)
    markers = (int(every * curves.offset), every)
    _draw(axes, x, y, marker=curves.marker, markevery=markers, **style)


def _draw(axes: "Axes", x: Sequence[float], y: Sequence[float], **style: Any) -> None:
    """Draws a line, with gaps where a value is not finite or not on the axis."""
    is_log = axes.get_yscale() == "log"
    shown = [
        _is_shown(a) and (_is_positive(b) if is_log else _is_shown(b))
        for a, b in zip(x, y, strict=True)
    ]
    axes.plot(
        x, [b if is_shown else math.nan for b, is_shown in zip(y, shown, strict=True)], **style
    )


def _is_shown(value: float) -> bool:
    return abs(value) <= _LARGEST


def _is_positive(value: float) -> bool:
    return 1 / _LARGEST <= value <= _LARGEST


def _perplexity(nll: float) -> float:
    return math.exp(nll) if nll < 700 else math.inf


def _valid_bound(curves: Curves) -> float | None:
    """Returns the entropy bound of the valid split in result.json; None if there is none."""
    bounds = curves.run.result.get("entropy_bounds")
    bound = bounds.get("valid") if isinstance(bounds, dict) else None
    return bound if isinstance(bound, float) and _is_positive(bound) else None


def _use_log_scale(axes: "Axes") -> None:
    """Uses a logarithmic y-axis with plain numbers at 1, 2 and 5 times powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _start_at_zero(axes: "Axes") -> None:
    """Starts the y-axis at zero, with a margin above the largest value."""
    top = axes.get_ylim()[1]
    if top > 0:
        axes.set_ylim(0, 1.05 * top)


def _without_run(line: "Line2D") -> "Line2D":
    """Returns a line in a legend for a line of any run: its style without color and marker."""
    from matplotlib.lines import Line2D

    shape: dict[str, Any] = {"linestyle": line.get_linestyle(), "linewidth": line.get_linewidth()}
    if line.get_marker() == "*":
        shape |= {"marker": "*", "markersize": line.get_markersize(), "markeredgecolor": "white"}
    return Line2D([], [], color=_DARK, label=line.get_label(), **shape)


def _add_legend(axes: "Axes", handles: Sequence["Line2D"]) -> None:
    """Adds a legend above the panel, where it covers no curve."""
    if not handles:
        return
    size = sum(len(str(handle.get_label())) for handle in handles)
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncols=4 if size <= _LEGEND_SIZE or len(handles) > 6 else 3,
    )
