"""`ptblm import`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_corpus, complete_directory, complete_file
from ptblm.cli.options import parse_name, parse_path
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def import_model(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL.pt",
            help="File that a PyTorch program wrote with torch.save: a model, a state_dict, or a "
            "list that begins with one.",
            parser=parse_path,
            autocompletion=complete_file,
        ),
    ],
    vocab: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=parse_path,
            autocompletion=complete_file,
            help="Vocabulary: one word per line, in the order of the ids.",
        ),
    ] = None,
    vocab_from: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            parser=parse_name,
            autocompletion=complete_corpus,
            help="Corpus that the model was trained on. Its train, valid and test words are "
            "numbered in the order in which they occur, as in PyTorch's word_language_model.",
        ),
    ] = None,
    kind: Annotated[
        Literal["auto", "examples", "awd"],
        typer.Option(
            "--format",
            help="Program that trained the model: `examples` is PyTorch's word_language_model or "
            "neural-complexity, `awd` is AWD-LSTM.",
        ),
    ] = "auto",
    run_dir: Annotated[
        Path | None,
        typer.Option(
            "--run-dir",
            "-o",
            metavar="DIR",
            help="Run directory to write.",
            show_default="runs/MODEL",
            parser=parse_path,
            autocompletion=complete_directory,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in the run directory first.")
    ] = False,
) -> None:
    """Import a model that a PyTorch program saved. Nothing in the file is run."""
    if (vocab is None) == (vocab_from is None):
        raise UsageError(
            "the vocabulary is missing; a PyTorch file does not contain it"
            if vocab is None
            else "--vocab and --vocab-from both name the vocabulary",
            hint="pass --vocab with a list of words, or --vocab-from with the training corpus",
        )
    from ptblm.cli.formats import import_lines
    from ptblm.run.import_model import import_model as import_file

    clean_up_on_stop()
    imported = import_file(
        model,
        vocabulary_file=vocab,
        corpus=vocab_from,
        kind=None if kind == "auto" else kind,
        run_dir=run_dir,
        overwrite=overwrite,
        command=sys.argv,
    )
    print_output(import_lines(imported))
