"""`ptblm checkpoint`: show and verify checkpoints."""

import typer

from ptblm.cli.options import CheckpointOrRun
from ptblm.errors import CheckpointError
from ptblm.terminal import print_output

checkpoint_app = typer.Typer(help="Show and verify checkpoints.", no_args_is_help=True)


@checkpoint_app.command("show")
def show_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Show the content of a checkpoint."""
    from ptblm.cli.formats import checkpoint_lines
    from ptblm.run.checkpoints import show_checkpoint as read_checkpoint

    print_output(checkpoint_lines(read_checkpoint(checkpoint)))


@checkpoint_app.command("verify")
def verify_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Verify one or all checkpoints of a run; exit with code 4 if one is damaged."""
    from ptblm.cli.formats import verdict_line
    from ptblm.run.checkpoints import verify_checkpoints

    verdicts = verify_checkpoints(checkpoint)
    print_output(map(verdict_line, verdicts))
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(CheckpointError.exit_code)
