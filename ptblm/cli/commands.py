"""All commands, and the options that come before a command.

Slow imports are inside the commands, so that `--help` is fast.
"""

import os
from typing import Annotated

import typer

from ptblm import __version__
from ptblm.cli.checkpoint_commands import checkpoint_app
from ptblm.cli.compare import compare
from ptblm.cli.completion import use_own_script
from ptblm.cli.config_commands import config_app
from ptblm.cli.download import download_data
from ptblm.cli.eval import evaluate
from ptblm.cli.export import export
from ptblm.cli.generate import generate
from ptblm.cli.import_model import import_model
from ptblm.cli.output import set_verbosity, show_tracebacks
from ptblm.cli.pairs import pairs
from ptblm.cli.plot import plot
from ptblm.cli.report import report
from ptblm.cli.rescore import rescore
from ptblm.cli.score import score
from ptblm.cli.sweep import sweep_app
from ptblm.cli.train import train
from ptblm.cli.tune_eval import tune_eval
from ptblm.errors import UsageError
from ptblm.terminal import print_output

use_own_script()
app = typer.Typer(
    name="ptblm",
    help="Train, evaluate and use recurrent language models: Penn Treebank and any other text.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("tune-eval")(tune_eval)
app.command("score")(score)
app.command("pairs")(pairs)
app.command("rescore")(rescore)
app.command("generate")(generate)
app.command("compare")(compare)
app.command("plot")(plot)
app.command("report")(report)
app.command("import")(import_model)
app.command("export")(export)
app.command("download-data")(download_data)
app.add_typer(sweep_app, name="sweep")
app.add_typer(config_app, name="config")
app.add_typer(checkpoint_app, name="checkpoint")


def _print_version(requested: bool) -> None:
    if requested:
        print_output([f"ptblm {__version__}"])
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with each error.")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Show only results, warnings and errors."),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", help="Show more notes, such as files that are read and saved."
        ),
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    show_tracebacks(debug)
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", hint="pass one of them")
    set_verbosity(quiet=quiet, verbose=verbose)
    # Libraries that torch loads end the process if the current directory does not exist.
    os.getcwd()
