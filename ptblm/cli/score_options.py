"""Checks that the options of `ptblm score` fit together."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ptblm.errors import UsageError

if TYPE_CHECKING:
    from ptblm.reporting.score_formats import Format

# What a mixture does not have, because it needs the probabilities of all words.
_OF_THE_MODEL = ("--top", "entropy", "entropy_reduction", "rank")


def reject(options: Mapping[str, object], reason: str) -> None:
    """Raises UsageError if one of the options is given."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} {reason}")


def check_mix(text: str, mix: str, mode: str | None, columns: Sequence[str]) -> None:
    """Raises UsageError if a text cannot be scored with a mixture."""
    if text == mix == "-":
        raise UsageError("only one input can be standard input")
    if mode == "stream":
        raise UsageError(
            "--mix cannot be combined with --mode stream, which does not score the first word",
            hint="the other model scores sentences; use --mode sentence or --mode document",
        )
    for column in columns:
        if column in _OF_THE_MODEL:
            raise UsageError(
                f"--mix: {column} is that of the model alone",
                hint="a file with the scores of another model contains only the words of the text",
            )


def chosen_columns(columns: str | None, name: str, form: "Format") -> tuple[str, ...]:
    """Returns the columns of a format without surprisal, which all formats contain."""
    typed = [] if columns is None else [each.strip() for each in columns.split(",")]
    for column in typed:
        if column not in form.columns:
            from ptblm.config.unknown_keys import closest

            guess = closest(column, set(form.columns))
            raise UsageError(
                f"--columns: --format {name} has no column '{column}'"
                + (f", did you mean '{guess}'?" if guess else ""),
                hint=f"its columns are {', '.join(form.columns)}"
                if form.columns
                else "its columns are fixed; use --format tsv",
            )
    return tuple(dict.fromkeys(each for each in (*form.fixed, *typed) if each != "surprisal"))
