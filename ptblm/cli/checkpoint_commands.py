"""`ptblm checkpoint`: show and verify checkpoints."""

import typer

from ptblm.cli.options import CheckpointOrRun
from ptblm.cli.output import print_result

checkpoint_app = typer.Typer(help="Look at checkpoints.", no_args_is_help=True)


@checkpoint_app.command("show")
def show_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Show what a checkpoint, or a run's last one, holds."""
    from ptblm.run.checkpoints import show_checkpoint as read

    info = read(checkpoint)
    versions = ", ".join(f"{name} {v}" for name, v in info.checkpoint.versions.items())
    tokens = len(info.checkpoint.vocabulary["tokens"])
    lines = [
        f"checkpoint   {info.path}, {info.size:,} bytes, format {info.checkpoint.format}",
        f"trained      {info.epochs} epochs, {info.steps:,} steps",
        f"model        {info.parameters:,} parameters, {tokens:,} {info.unit}s",
        f"corpus       {info.checkpoint.corpus['name']}",
        f"written by   {versions}",
    ]
    if info.valid_perplexity is not None:
        lines.append(f"valid        perplexity {info.valid_perplexity:.2f}")
    print_result("\n".join(lines))


@checkpoint_app.command("verify")
def verify_checkpoint(checkpoint: CheckpointOrRun) -> None:
    """Verify a checkpoint, or all of a run's, in full; exit 4 if one is bad."""
    from ptblm.errors import CheckpointError
    from ptblm.run.checkpoints import verify_checkpoints

    verdicts = verify_checkpoints(checkpoint)
    lines = [
        f"{v.path}: bad, {v.problem}"
        if v.problem
        else f"{v.path}: good, epoch {v.epochs}, step {v.steps:,}"
        for v in verdicts
    ]
    print_result("\n".join(lines))
    if any(verdict.problem for verdict in verdicts):
        raise typer.Exit(CheckpointError.exit_code)
