"""A sweep as a table, as importances of keys, and as notes on the edges of its space."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptblm.json_files import finite
from ptblm.reporting.compare import Comparison, Spread
from ptblm.reporting.run_labels import short_names
from ptblm.terminal import escape

_BAR = 30  # characters of the longest bar


@dataclass(frozen=True)
class Trial:
    """A trial of a sweep.

    Attributes:
        number: the number of the trial.
        values: the drawn value of each key.
        valid: the valid perplexity of its best epoch so far; None before the first.
        epochs: the number of completed epochs.
        state: finished, pruned, diverged, failed, running or waiting.
        note: the message of a failed trial.
        start: when it started, in seconds since the start of the sweep; None if it has not.
    """

    number: int
    values: dict[str, Any]
    valid: float | None
    epochs: int
    state: str
    note: str
    start: float | None


@dataclass(frozen=True)
class Repetitions:
    """The repetitions of a trial with other seeds.

    Attributes:
        number: the number of the trial.
        count: the number of finished repetitions.
        valid: their valid perplexities, of the best epochs.
        test: their test perplexities, of the best epochs; None if they were not tested.
    """

    number: int
    count: int
    valid: Spread
    test: Spread | None


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep has found so far.

    Attributes:
        name: the name of the sweep directory.
        trials: all trials: the finished ones from the best to the worst, then the pruned ones, then
            the others.
        scales: lowest value, highest value, and whether the scale is logarithmic, of each range.
        importances: the importance of each key for the valid perplexity, the highest first; empty
            if there are too few finished trials.
        edges: notes on the best trial, one for each value at an edge of its range.
        repetitions: the repetitions of the best trials.
    """

    name: str
    trials: Sequence[Trial]
    scales: dict[str, tuple[float, float, bool]]
    importances: dict[str, float]
    edges: Sequence[str]
    repetitions: Sequence[Repetitions]

    @property
    def keys(self) -> list[str]:
        """The keys of the space."""
        return list(dict.fromkeys(key for trial in self.trials for key in trial.values))


def trial_table(summary: SweepSummary, *, rounded: bool) -> Comparison:
    """Returns the table of the trials.

    Args:
        summary: the sweep.
        rounded: whether drawn numbers have four significant digits, for people.
    """
    rows = []
    for rank, trial in enumerate(summary.trials, start=1):
        values = {key: trial.values.get(key) for key in summary.keys}
        if rounded:
            values = {key: _rounded(value) for key, value in values.items()}
        rows.append(
            {
                "rank": rank if trial.state == "finished" else None,
                "trial": trial.number,
                "valid": trial.valid,
                "epochs": trial.epochs,
                "state": trial.state,
                **values,
            }
        )
    return Comparison(["rank", "trial", "valid", "epochs", "state", *summary.keys], rows)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def finding_lines(summary: SweepSummary) -> list[str]:
    """Returns the lines after the table: repetitions, importances, edges, failed trials."""
    lines = []
    for each in summary.repetitions:
        test = "" if each.test is None else f", test {_spread(each.test)}"
        lines.append(
            f"trial {each.number} with other seeds (n = {each.count}): "
            f"valid {_spread(each.valid)}{test}"
        )
    lines += [""] if lines else []
    if summary.importances:
        finished = sum(trial.state == "finished" for trial in summary.trials)
        names = short_names(list(summary.importances))
        width, highest = max(map(len, names)), max(summary.importances.values()) or 1.0
        lines.append(f"importance for the valid perplexity ({finished} finished trials)")
        for name, share in zip(names, summary.importances.values(), strict=True):
            bar = "#" * round(_BAR * share / highest)
            lines.append(f"  {name:<{width}}  {share:4.0%}  {bar}".rstrip())
        lines.append("")
    lines += summary.edges
    failed = [trial for trial in summary.trials if trial.note]
    lines += [f"trial {trial.number} failed: {trial.note}" for trial in failed]
    return [escape(line) for line in lines[: None if lines and lines[-1] else -1]]


def _spread(spread: Spread) -> str:
    sd = "" if spread.sd is None else f" ± {spread.sd:.2f}"
    return f"{spread.mean:.2f}{sd}"


def sweep_document(summary: SweepSummary) -> dict[str, Any]:
    """Returns the sweep as plain data."""
    document: dict[str, Any] = {
        "sweep": summary.name,
        "trials": [
            {
                "trial": trial.number,
                "state": trial.state,
                "valid_perplexity": trial.valid,
                "epochs": trial.epochs,
                "values": trial.values,
                "note": trial.note or None,
            }
            for trial in summary.trials
        ],
        "importances": summary.importances,
        "edges": list(summary.edges),
        "repetitions": [
            {
                "trial": each.number,
                "n": each.count,
                "valid_perplexity": each.valid._asdict(),
                "test_perplexity": None if each.test is None else each.test._asdict(),
            }
            for each in summary.repetitions
        ],
    }
    return dict(finite(document))
