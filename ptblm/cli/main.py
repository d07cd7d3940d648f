"""The entry point: signals first, then the command, its errors and its exit code.

Slow imports are inside functions, so that a signal that arrives during them ends the process.
"""

import os
import sys

from ptblm.errors import LostProcessError, PtblmError, UsageError
from ptblm.run.signals import end_on_stop, ignore_signals, stopped


def main() -> None:
    """Runs the command line."""
    end_on_stop()
    try:
        code = _run()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    ignore_signals()
    if code == LostProcessError.exit_code:
        # Threads that wait for the other process would abort this one.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(stopped() or code)


def _run() -> int:
    """Runs the command, prints its error if it fails, and returns the exit code."""
    from ptblm.cli.output import (
        configure_logging,
        print_error,
        print_traceback,
        show_tracebacks,
    )
    from ptblm.terminal import OutputError, open_standard_streams, print_messages

    open_standard_streams()
    configure_logging()
    show_tracebacks(False)  # until --debug is parsed
    try:
        return _run_command()
    except Exception as error:
        if isinstance(error, OutputError) and error.is_closed:
            return 141
        if "_PTBLM_COMPLETE" in os.environ and not isinstance(error, OutputError):
            return 1  # a message would appear in the line that is completed
        problem = _known_error(error)
        if problem is None:
            print_traceback(error)
            request = "This is a bug in ptblm. Please report it and include the traceback above."
            print_messages(["", request])
            return 1
        print_error(problem)
        return problem.exit_code


def _run_command() -> int:
    """Runs the command and returns its exit code.

    Raises:
        UsageError: if the command line cannot be parsed.
        OutputError: if stdout cannot be written to.
    """
    from typer._click.exceptions import ClickException, NoArgsIsHelpError

    from ptblm.cli.commands import app
    from ptblm.cli.usage_errors import reword

    try:
        code = app(prog_name="ptblm", standalone_mode=False)
    except NoArgsIsHelpError as error:  # typer has printed the help
        code = error.exit_code
    except ClickException as error:
        raise reword(error, sys.argv[1:]) from None
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _is_out_of_memory(error: Exception) -> bool:
    """Returns whether memory ran out, perhaps while a library was loaded."""
    return isinstance(error, MemoryError) or (
        isinstance(error, ImportError)
        and any(words in str(error) for words in ("failed to map", "cannot allocate memory"))
    )


def _known_error(error: Exception) -> PtblmError | None:
    """Returns the error of ptblm for an exception; None if the exception is a bug."""
    from ptblm.files import described
    from ptblm.terminal import OutputError

    if isinstance(error, PtblmError):
        return error
    if isinstance(error, OutputError):
        return UsageError(
            f"cannot write to standard output: {error.reason}",
            hint="free disk space, or redirect the output elsewhere",
        )
    if _is_out_of_memory(error):
        return UsageError(
            "not enough memory",
            hint="close other programs, or raise the limit of the memory (`ulimit -v`)",
        )
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return UsageError(
            "the current directory no longer exists", hint="change to another directory"
        )
    if isinstance(error, OSError):
        # The last resort: the code that uses a path knows better advice.
        known = described(error, UsageError, "cannot be used")
        if known.hint is None and known.where is not None:
            known.hint = "check the path"
        return known if known.hint else None
    return None
