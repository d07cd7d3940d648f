"""`ptblm report`."""

from pathlib import Path
from typing import Annotated

import typer

from ptblm.cli.options import Cell, Data, Device, OverwriteFile, runs_argument, to_option
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def report(
    runs: Annotated[
        list[Path],
        runs_argument("One to six run directories; a run can be in progress."),
    ],
    to: Annotated[
        Path | None,
        to_option("File to write.", default="RUN_DIR/report.html, or report.html for several runs"),
    ] = None,
    overwrite: OverwriteFile = False,
    no_analysis: Annotated[
        bool,
        typer.Option("--no-analysis", help="Omit what needs the models: passage, gates, samples."),
    ] = False,
    data: Data = None,
    cell: Cell = None,
    device: Device = None,
) -> None:
    """Write a report of runs as one HTML page: results, curves, and what the model has learned."""
    from ptblm.reporting.compare import read_runs
    from ptblm.run.report import write_report

    clean_up_on_stop()
    histories = read_runs(runs)
    path = to or (histories[0].path / "report.html" if len(histories) == 1 else Path("report.html"))
    write_report(
        histories,
        path,
        overwrite=overwrite,
        analysis=not no_analysis,
        data=data,
        cell=cell,
        device_name=device or "auto",
        show_progress=True,
    )
    print_output([f"written      {path}"])
