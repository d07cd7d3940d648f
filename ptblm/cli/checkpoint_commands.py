"""`ptblm checkpoint`: show and verify checkpoints."""

import typer

from ptblm.cli.options import CheckpointOrRun
from ptblm.cli.output import print_result

checkpoint_app = typer.Typer(help="Look at checkpoints.", no_args_is_help=True)


@checkpoint_app.command("show")
def show_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Show what a checkpoint, or a run's last one, holds."""
    from ptblm.run.checkpoints import show_checkpoint as describe

    print_result("\n".join(describe(checkpoint)))


@checkpoint_app.command("verify")
def verify_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Verify a checkpoint, or all of a run's, in full; exit 4 if one is bad."""
    from ptblm.errors import CheckpointError
    from ptblm.run.checkpoints import verify_checkpoints

    verdicts = verify_checkpoints(checkpoint)
    print_result("\n".join(line for line, _ in verdicts))
    if not all(good for _, good in verdicts):
        raise typer.Exit(CheckpointError.exit_code)
