"""Options and arguments that commands share."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from ptblm.cli.completion import (
    complete_cell,
    complete_config,
    complete_corpus,
    complete_file,
    complete_run,
)
from ptblm.errors import UsageError
from ptblm.paths import expand_path

BASES = {"2": 2.0, "e": math.e, "10": 10.0}  # of logarithms


def parse_name(text: str) -> str:
    """Returns a name or a path as typed; an empty text, as of an unset variable, is an error."""
    if not text:
        raise typer.BadParameter("expected a name or a path, got ''")
    return text


def parse_path(text: str) -> Path:
    """Returns a path with `~` and variables expanded, as in `--run-dir=~/run`."""
    if not text:
        raise typer.BadParameter("expected a path, got ''")
    return expand_path(text)


def parse_mix_weight(text: str | None, mix: str | None) -> float | None:
    """Returns the weight of the model in a mixture; None to select it.

    Args:
        text: the value of `--mix-weight`, if it is given.
        mix: the value of `--mix`.

    Raises:
        UsageError: if the weight is neither "auto" nor a number from 0 to 1, or nothing is mixed.
    """
    if text is not None and mix is None:
        raise UsageError("--mix-weight needs --mix")
    if text in (None, "auto"):
        return None
    try:
        weight = float(text)
    except ValueError:
        raise UsageError(f"--mix-weight: expected auto or a number, got '{text}'") from None
    if not 0 <= weight <= 1:
        raise UsageError(f"--mix-weight: expected a number from 0 to 1, got {text}")
    return weight


def runs_argument(text: str) -> Any:
    """Returns the argument of a command that reads several run directories."""
    return typer.Argument(
        metavar="RUN_DIR...", help=text, parser=parse_path, autocompletion=complete_run
    )


def to_option(text: str, default: str) -> Any:
    """Returns the option of the file that a command writes.

    Args:
        text: the help text.
        default: the default value, as the help names it.
    """
    return typer.Option(
        "--to",
        "-o",
        metavar="FILE",
        help=text,
        show_default=default,
        parser=parse_path,
        autocompletion=complete_file,
    )


OverwriteFile = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]
ConfigName = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="NAME|FILE",
        help="Shipped config, such as small or medium (see `ptblm config list`), or YAML file.",
        show_default="small",
        parser=parse_name,
        autocompletion=complete_config,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a config key; repeatable."),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        parser=parse_name,
        autocompletion=complete_corpus,
        help="Corpus: `ptb`, `sample` (embedded), a directory with train.txt, valid.txt and "
        "test.txt, or a text file, which is split by position.",
    ),
]
Cell = Annotated[
    str | None,
    typer.Option(
        metavar="CELL",
        parser=parse_name,
        autocompletion=complete_cell,
        help="Recurrent cell. A custom cell, `my_module:MyCell`, is code: it runs only if you pass "
        "its name or have trained with the same file.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.", show_default="auto"),
]
MixWeight = Annotated[
    str | None,
    typer.Option(
        metavar="W|auto",
        help="Weight of the model in the mixture; auto selects the most likely one, and keeps all "
        "scores in memory.",
        show_default="auto",
    ),
]
TextSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override data.encoding, data.format, data.marks or data.vocabulary.unk for the "
        "text; repeatable.",
    ),
]
CheckpointOrRun = Annotated[
    Path,
    typer.Argument(
        metavar="CHECKPOINT|RUN_DIR",
        help="Checkpoint file, or run directory, whose last checkpoint is used.",
        parser=parse_path,
        autocompletion=complete_run,
    ),
]
