"""The table of minimal pairs: accuracy with a bar, pairs, ties and unknown tokens of each set."""

from collections.abc import Iterable, Iterator

from tqdm.utils import disp_len

from ptblm.evaluation.minimal_pairs.accuracy import Accuracy, Summary
from ptblm.terminal import counted, escape

_BAR = 10  # columns of a bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BLOCK, _CHANCE, _ELLIPSIS = "█", "┊", "…"
_COLUMNS = "  {:>8}  {}{:>9}{:>7}{:>9}"
_MIN_NAME = 16


def pairs_table(
    summary: Summary, unit: str, width: int = 80, *, ascii_only: bool = False
) -> list[str]:
    """Returns the lines of the table.

    Args:
        summary: the accuracies.
        unit: name of a token: "word", "character", "byte" or "subword".
        width: columns of the terminal.
        ascii_only: whether the terminal can only show ASCII characters.
    """
    sections = {"paradigm": summary.paradigms, **summary.groups, "": [summary.overall]}
    # A group with a single set repeats the overall accuracy.
    shown = {
        title: rows for title, rows in sections.items() if title in ("paradigm", "") or rows[1:]
    }
    names = [escape(row.name) for rows in shown.values() for row in rows]
    room = max(_MIN_NAME, width - len(_COLUMNS.format("", " " * _BAR, "", "", "")))
    room = min(room, max(map(disp_len, [*names, "paradigm"])))
    lines: list[str] = []
    for title, rows in shown.items():
        header = (title, "accuracy", " " * _BAR, "pairs", "ties", "unknown")
        lines += ["", _line(header, room)] if title else [""]
        lines += (_row(row, room, ascii_only=ascii_only) for row in rows)
    return [*lines, "", *_remarks(summary.overall, unit)]


def bar(share: float, width: int = _BAR, *, ascii_only: bool = False) -> str:
    """Returns a bar for a share of 1, in which a mark is at one half.

    Args:
        share: length of the bar, from 0 to 1.
        width: columns of the bar.
        ascii_only: whether to use only ASCII characters.
    """
    if ascii_only:
        drawn = "#" * round(share * width)
        mark = ":"
    else:
        whole, eighths = divmod(round(share * width * 8), 8)
        drawn = _BLOCK * whole + _EIGHTHS[eighths].strip()
        mark = _CHANCE
    rest = [" "] * width
    rest[width // 2] = mark
    return drawn + "".join(rest[len(drawn) :])


def _row(row: Accuracy, room: int, *, ascii_only: bool) -> str:
    name = _shortened(escape(row.name), room, "~" if ascii_only else _ELLIPSIS)
    columns = (
        name,
        f"{100 * row.mean:.1f}",
        bar(row.mean, ascii_only=ascii_only),
        f"{row.pairs:,}",
        f"{row.ties:,}",
        f"{row.unknown_share:.1%}",
    )
    return _line(columns, room)


def _line(columns: Iterable[str], room: int) -> str:
    name, *others = columns
    return (name + " " * (room - disp_len(name)) + _COLUMNS.format(*others)).rstrip()


def _shortened(name: str, room: int, ellipsis: str) -> str:
    """Returns a name without its middle if it is too long: paradigms differ in their ends."""
    if disp_len(name) <= room:
        return name
    start, end = name[: room // 2], name[-(room - room // 2 - 1) :]
    while disp_len(start + ellipsis + end) > room:
        start, end = start[:-1], end[1:]
    return start + ellipsis + end


def _remarks(overall: Accuracy, unit: str) -> Iterator[str]:
    if overall.paradigms > 1:
        over = "accuracy     mean over "
        mean, over_pairs = f"{100 * overall.mean:.1f}", f"{100 * overall.over_pairs:.1f}"
        paradigms = counted(overall.paradigms, "paradigm")
        differs = "" if mean == over_pairs else f"; over all pairs {over_pairs}"
        yield f"{over}{paradigms} {mean}{differs}"
    yield f"unknown      {overall.unknown_share:.1%} of the {unit}s"
    yield f"same         {overall.same_share:.1%} of the pairs are the same {unit}s for the model"
