"""The command line: assembles the commands, and turns errors into messages and exit codes.

Slow imports are inside the commands, so that `--help` is fast.
"""

import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError

from ptblm import __version__
from ptblm.cli.checkpoint_commands import checkpoint_app
from ptblm.cli.config_commands import config_app
from ptblm.cli.download import download_data
from ptblm.cli.eval import evaluate
from ptblm.cli.output import (
    configure_logging,
    escape_control_characters,
    open_standard_streams,
)
from ptblm.cli.train import train
from ptblm.cli.usage_errors import reword
from ptblm.errors import PtblmError, UsageError

app = typer.Typer(
    name="ptblm",
    help="Train and evaluate recurrent language models on the Penn Treebank and any other text.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train)
app.command("eval")(evaluate)
app.command("download-data")(download_data)
app.add_typer(config_app, name="config")
app.add_typer(checkpoint_app, name="checkpoint")

_debug = False


def main() -> None:
    """Runs the command line."""
    open_standard_streams()
    configure_logging()
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)
    for name in ("SIGUSR1", "SIGUSR2"):  # save a checkpoint, once training has started
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) is signal.SIG_DFL:
            signal.signal(getattr(signal, name), lambda *_: None)
    try:
        sys.exit(app(standalone_mode=False))
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ClickException as error:
        _print_error(reword(error, sys.argv[1:]))
        sys.exit(error.exit_code)
    except Exception as error:
        problem = error if isinstance(error, PtblmError) else _path_error(error)
        if problem is None or _debug:
            traceback.print_exc()
        if problem is None:
            print(
                "\nThis is a bug in ptblm. Please report it and include the traceback above.",
                file=sys.stderr,
            )
            sys.exit(1)
        _print_error(problem)
        sys.exit(problem.exit_code)


def _exit(number: int, _frame: object) -> NoReturn:
    """Exits with the signal's exit code. Commands that save state replace this handler."""
    sys.exit(128 + number)


def _path_error(error: Exception) -> UsageError | None:
    """Returns the error for a path that the operating system rejects; None for other errors.

    Such a path is, for example, too long or not accessible.
    """
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return UsageError(
        f"cannot be used: {error.strerror or error}",
        where=str(error.filename),
        hint="check the path and its permissions",
    )


def _print_error(error: PtblmError) -> None:
    """Prints each problem on a separate line, then the location and the hint."""
    problems = "\n".join(f"{error.label}: {line}" for line in error.what.splitlines())
    message = problems + str(error).removeprefix(error.what)
    print(escape_control_characters(message), file=sys.stderr)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"ptblm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show a traceback with each error.")
    ] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    global _debug
    _debug = debug
