"""Formats the result of `ptblm pairs` as text or JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptblm.cli.formats import progress_text
from ptblm.evaluation.minimal_pairs.accuracy import Accuracy
from ptblm.reporting.pairs_table import pairs_table
from ptblm.run.pairs import PairsResult


def pairs_json(result: PairsResult, files: Sequence[Path]) -> dict[str, Any]:
    """Returns the accuracies on the pairs of files as JSON values, unrounded."""
    summary = result.summary
    return {
        "checkpoint": str(result.checkpoint),
        "epochs": result.epochs,
        "steps": result.steps,
        "files": list(map(str, files)),
        "compared": result.compared,
        "tokenize": result.splitting,
        "ties": "wrong" if result.strict else "half",
        **_accuracy(summary.overall, result.unit),
        "by_paradigm": {each.name: _accuracy(each, result.unit) for each in summary.paradigms},
        "by_group": {
            kind: {each.name: _accuracy(each, result.unit) for each in sets}
            for kind, sets in summary.groups.items()
        },
    }


def _accuracy(accuracy: Accuracy, unit: str) -> dict[str, Any]:
    return {
        "accuracy": accuracy.mean,
        "accuracy_over_pairs": accuracy.over_pairs,
        "paradigms": accuracy.paradigms,
        "pairs": accuracy.pairs,
        "right": accuracy.right,
        "ties": accuracy.ties,
        "same_pairs": accuracy.same,
        f"{unit}s": accuracy.words,
        f"unknown_{unit}s": accuracy.unknown,
    }


def pairs_lines(result: PairsResult, width: int, *, ascii_only: bool) -> list[str]:
    """Returns the result as lines of text.

    Args:
        result: the result.
        width: columns of the terminal.
        ascii_only: whether the terminal can only show ASCII characters.
    """
    ties = "wrong" if result.strict else "half"
    return [
        f"checkpoint   {result.checkpoint}, {progress_text(result.epochs, result.steps)}",
        *(f"compared     {line}" for line in result.compared),
        f"tokenize     {result.splitting}",
        f"ties         count {ties}",
        *pairs_table(result.summary, result.unit, width, ascii_only=ascii_only),
        f"device       {result.device}",
    ]
