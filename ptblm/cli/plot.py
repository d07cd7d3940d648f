"""`ptblm plot`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.options import OverwriteFile, runs_argument, to_option
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def plot(
    runs: Annotated[
        list[Path],
        runs_argument("One to eight run directories; a run can be in progress."),
    ],
    to: Annotated[
        Path | None,
        to_option(
            "File to write: .png, .svg or .pdf.",
            default="RUN_DIR/plot.png, or plot.png for several runs",
        ),
    ] = None,
    panels: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Panels from top to bottom, separated by commas.",
            show_default="perplexity,learning-rate,gradient-norm,speed",
        ),
    ] = "perplexity,learning-rate,gradient-norm,speed",
    axis: Annotated[
        Literal["steps", "epochs", "tokens", "hours"],
        typer.Option("--x", help="Unit of the x-axis; hours are training time."),
    ] = "steps",
    overwrite: OverwriteFile = False,
) -> None:
    """Plot learning curves, learning rate, gradient norm and speed of runs."""
    from ptblm.reporting.plot import plot_runs, read_recorded_runs
    from ptblm.reporting.plot_file import check_plot_file, write_plot
    from ptblm.reporting.plot_panels import COLORS, panel_names

    clean_up_on_stop()
    names = panel_names(panels)
    if len(runs) > len(COLORS):
        raise UsageError(
            f"{len(runs)} runs are too many for a legible plot",
            hint=f"pass at most {len(COLORS)}",
        )
    recorded = read_recorded_runs(runs)
    path = to or (runs[0] / "plot.png" if len(runs) == 1 else Path("plot.png"))
    check_plot_file(path, overwrite=overwrite)
    write_plot(plot_runs(recorded, names, axis), path)
    print_output([f"written      {path}"])
