"""Charts as inline SVG: lines with linear or logarithmic axes, and heat maps.

Colors, fonts and line styles are in the style sheet of the page, so that charts follow its color
scheme. Series differ in color and in dashes. All texts are escaped.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_WIDTH, _HEIGHT = 640, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 12, 46
_GAP = 8  # between the lowest point and the labels of the x-axis
_MAX_POINTS = 400
_MIN_LABEL_GAP = 44  # pixels between the labels of the x-axis

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        label: its name in the legend.
        points: its points; those that are not finite are gaps.
        color: number of its color.
        dashed: whether the line is dashed.
        star: a point to mark, such as the best epoch.
    """

    label: str
    points: Sequence[Point]
    color: int = 0
    dashed: bool = False
    star: Point | None = None


@dataclass(frozen=True)
class Axis:
    """An axis of a chart.

    Attributes:
        label: its name, with its unit.
        log: whether it is logarithmic.
        whole: whether only whole numbers are labeled.
        zero: whether a linear axis contains zero.
    """

    label: str
    log: bool = False
    whole: bool = False
    zero: bool = False


def line_chart(title: str, series: Sequence[Series], x: Axis, y: Axis) -> str:
    """Returns an SVG element, or "" if there is nothing to draw."""
    drawn = [(each, _thinned(_visible(each.points, x, y))) for each in series]
    points = [point for _, kept in drawn for point in kept if point is not None]
    if not points:
        return ""
    xs, ys = [p[0] for p in points], [p[1] for p in points] + [0.0] * y.zero
    horizontal = _scale(xs, x.log, _LEFT, _WIDTH - _RIGHT)
    vertical = _scale(ys, y.log, _HEIGHT - _BOTTOM - _GAP, _TOP)
    parts = [*_grid(xs, ys, x, y, horizontal, vertical)]
    for each, kept in drawn:
        style = f"line c{each.color}{' dashed' if each.dashed else ''}"
        path = _path(kept, horizontal, vertical)
        if path:
            parts.append(f'<path class="{style}" d="{path}"/>')
        stars = [each.star] if each.star is not None and _is_visible(each.star, x, y) else []
        for style, radius, marked in (("dot", 3, _single_points(kept)), ("star", 5, stars)):
            parts += [
                f'<circle class="{style} c{each.color}" cx="{horizontal(a):.1f}" '
                f'cy="{vertical(b):.1f}" r="{radius}"/>'
                for a, b in marked
            ]
    return _svg(title, _WIDTH, _HEIGHT, parts)


def heat_map(title: str, columns: Sequence[str], values: Sequence[Sequence[float]]) -> str:
    """Returns an SVG element with a cell for each value, whose opacity is the value.

    Args:
        title: the title.
        columns: the labels of the columns.
        values: values from 0 to 1, by column, then row.
    """
    cell_width, cell_height, labels = 20, 9, 84
    rows = len(values[0]) if values else 0
    parts = []
    for number, (label, column) in enumerate(zip(columns, values, strict=True)):
        left = number * cell_width
        cells = (
            f'<path d="M0 {row * cell_height}h{cell_width}v{cell_height}h-{cell_width}z" '
            f'fill-opacity="{min(max(value, 0), 1):.2g}"/>'
            for row, value in enumerate(column)
        )
        parts.append(f'<g class="cell" transform="translate({left})">{"".join(cells)}</g>')
        middle, top = left + cell_width / 2, rows * cell_height + 6
        parts.append(
            f'<text class="tick" transform="translate({middle:.0f} {top}) rotate(60)">'
            f"{html.escape(_shortened(label))}</text>"
        )
    width = len(columns) * cell_width + labels // 2
    return _svg(title, width, rows * cell_height + labels, parts, "map")


def ticks(low: float, high: float, *, log: bool, count: int = 5) -> list[float]:
    """Returns round numbers in an interval, at most a few more than `count`."""
    if not high > low:
        return [low]
    if log:
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for digits in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 5), (1,)):
            found = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
            if len(found) <= count + 2:
                return found if len(found) > 1 else ticks(low, high, log=False, count=count)
        return found[:: math.ceil(len(found) / count)]
    rough = (high - low) / count
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * digit for digit in (1, 2, 5, 10) if size * digit >= rough)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def short_number(value: float) -> str:
    """Returns a number as a label of an axis, such as 0.5, 120, 1,500 or 20k."""
    if value and abs(value) < 0.001:
        return f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 10_000:
        return f"{value / 1e6:g}M" if abs(value) >= 1e6 else f"{value / 1000:g}k"
    return f"{value:,.0f}" if value == round(value) else f"{value:.4g}"


def _svg(title: str, width: int, height: int, parts: Sequence[str], style: str = "chart") -> str:
    return (
        f'<svg class="{style}" width="{width}" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg>"
    )


def _grid(
    xs: Sequence[float],
    ys: Sequence[float],
    x: Axis,
    y: Axis,
    horizontal: "_Scale",
    vertical: "_Scale",
) -> list[str]:
    """Returns the lines, the numbers and the names of both axes.

    A narrow page shows larger text, and hides every second number of the x-axis and the name of
    the y-axis, which the title of the chart repeats.
    """
    parts = []
    for value in ticks(min(ys), max(ys), log=y.log):
        at = vertical(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 6, at + 4, short_number(value), "tick end"))
    last, labels = -math.inf, 0
    for value in ticks(min(xs), max(xs), log=x.log, count=8):
        at = horizontal(value)
        if at - last >= _MIN_LABEL_GAP and (value == round(value) or not x.whole):
            last = at
            style = "tick middle wide" if labels % 2 else "tick middle"
            labels += 1
            parts.append(_text(at, _HEIGHT - _BOTTOM + 18, short_number(value), style))
    parts.append(_text((_LEFT + _WIDTH) / 2, _HEIGHT - 4, x.label, "name middle"))
    middle = (_HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text class="name middle wide" transform="translate(12 {middle:.0f}) rotate(-90)">'
        f"{html.escape(y.label)}</text>"
    )
    return parts


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{html.escape(text)}</text>'


_Scale = Callable[[float], float]


def _scale(values: Sequence[float], log: bool, start: float, end: float) -> _Scale:
    low, high = min(values), max(values)
    if log:
        low, high = math.log(low), math.log(high)
    size = (high - low) or 1.0

    def place(value: float) -> float:
        share = ((math.log(value) if log else value) - low) / size
        return start + (end - start) * share

    return place


def _is_visible(point: Point, x: Axis, y: Axis) -> bool:
    return all(
        math.isfinite(value) and (value > 0 or not axis.log)
        for value, axis in zip(point, (x, y), strict=True)
    )


def _visible(points: Sequence[Point], x: Axis, y: Axis) -> list[Point | None]:
    """Returns the points, with None for those that cannot be drawn."""
    return [point if _is_visible(point, x, y) else None for point in points]


def _thinned(points: list[Point | None]) -> list[Point | None]:
    """Returns every n-th point and the last one, if there are many."""
    step = -(-len(points) // _MAX_POINTS) or 1
    kept = points[::step]
    return kept if not points or (len(points) - 1) % step == 0 else [*kept, points[-1]]


def _path(points: Sequence[Point | None], horizontal: _Scale, vertical: _Scale) -> str:
    parts, pen = [], "M"
    for point in points:
        if point is None:
            pen = "M"
            continue
        parts.append(f"{pen}{horizontal(point[0]):.1f} {vertical(point[1]):.1f}")
        pen = "L"
    return "".join(parts)


def _single_points(points: Sequence[Point | None]) -> list[Point]:
    """Returns the points without a neighbor, of which a line shows nothing."""
    padded = [None, *points, None]
    return [
        point
        for before, point, after in zip(padded, padded[1:], padded[2:], strict=False)
        if point is not None and before is None and after is None
    ]


def _shortened(label: str) -> str:
    return label if len(label) <= 12 else f"{label[:11]}…"
