"""`ptblm pairs`."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_file
from ptblm.cli.options import Cell, CheckpointOrRun, Device, parse_path
from ptblm.cli.output import print_json
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def pairs(
    checkpoint: CheckpointOrRun,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            parser=parse_path,
            autocompletion=complete_file,
            help="JSON lines of BLiMP or BabyLM, a TSV or CSV table, X.text with X.eval and X.gold "
            "next to it (Gulordava et al.), or a suite of SyntaxGym.",
        ),
    ],
    method: Annotated[
        Literal["full", "prefix", "target"] | None,
        typer.Option(
            help="Compare whole sentences, the critical words that the file names, or the tokens "
            "that differ.",
            show_default="full; target for X.text",
        ),
    ] = None,
    score: Annotated[
        Literal["sum", "mean", "slor"] | None,
        typer.Option(
            help="Log-probability, its mean per token, or the mean difference to a unigram model.",
            show_default="sum",
        ),
    ] = None,
    splitting: Annotated[
        Literal["none", "ptb", "ptb-lower"],
        typer.Option(
            "--tokenize",
            help="Split punctuation and contractions from words as in the Penn Treebank; "
            "`ptb-lower` also converts to lower case.",
        ),
    ] = "none",
    strict: Annotated[
        bool, typer.Option("--strict", help="Count ties as wrong instead of half.")
    ] = False,
    good: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the grammatical sentence in a table."),
    ] = None,
    bad: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the ungrammatical sentence in a table."),
    ] = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the paradigm in a table.")
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=parse_path,
            autocompletion=complete_file,
            help="Write a row per pair; BabyLM's JSON if the name ends with .json.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Sentences that are scored at once.")] = 64,
    cell: Cell = None,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Evaluate a trained model on minimal pairs: which sentence is more probable?"""
    from ptblm.cli.pairs_formats import pairs_json, pairs_lines
    from ptblm.evaluation.minimal_pairs.table import Columns
    from ptblm.run.pairs import evaluate_pairs

    clean_up_on_stop()
    result = evaluate_pairs(
        checkpoint,
        files,
        method=method,
        score=score,
        splitting=splitting,
        columns=Columns(good, bad, by),
        strict=strict,
        predictions=predictions,
        batch_size=batch_size,
        cell=cell,
        device_name=device or "auto",
        show_progress=True,
    )
    if as_json:
        print_json(pairs_json(result, files))
    else:
        width = shutil.get_terminal_size().columns
        print_output(pairs_lines(result, width, ascii_only=not _can_show_bars()))


def _can_show_bars() -> bool:
    """Returns whether standard output can show the characters of a bar."""
    try:
        "█▏┊…".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
