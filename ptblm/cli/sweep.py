"""`ptblm sweep`: run, show, best."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ptblm.cli.completion import complete_directory, complete_file
from ptblm.cli.options import parse_path
from ptblm.cli.output import print_json
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_from_handler, print_messages, print_output

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from ptblm.run.sweep.directory import TrialFiles

sweep_app = typer.Typer(help="Tune config keys with Optuna: run, show, best.", no_args_is_help=True)

Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Database for the trials, such as postgresql://HOST/NAME.",
        show_default="DIR/journal.jsonl",
    ),
]
SweepDir = Annotated[
    Path,
    typer.Argument(
        metavar="DIR",
        help="Directory of a sweep, which can be in progress.",
        parser=parse_path,
        autocompletion=complete_directory,
    ),
]


@sweep_app.command("run")
def run_sweep(
    space: Annotated[
        Path,
        typer.Argument(
            metavar="SPACE.yaml",
            help="YAML file with the config, the values to try, and how to search.",
            parser=parse_path,
            autocompletion=complete_file,
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Directory of the sweep; workers with the same directory share its trials.",
            show_default="runs/sweep-SPACE",
            parser=parse_path,
            autocompletion=complete_directory,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, help="Number of trials of all workers.", show_default="as in SPACE"
        ),
    ] = None,
    storage: Storage = None,
) -> None:
    """Start a worker of a sweep, or continue the sweep in its directory.

    Start as many workers as you like, on all machines that share the directory.
    """
    from ptblm.config.sweep_loading import load_sweep
    from ptblm.run.sweep import check_optuna

    check_optuna()
    sweep = load_sweep(space)
    from ptblm.run.directory import RUNS
    from ptblm.run.launch import own_command
    from ptblm.run.sweep.directory import SweepDirectory
    from ptblm.run.sweep.run import run_worker

    clean_up_on_stop()
    directory = SweepDirectory(to or RUNS / f"sweep-{space.stem}")
    show = f"next: ptblm sweep show {directory.path}"
    print_messages([f"sweep {directory.path}; the output of its runs is in trial-*.log"])
    run_worker(
        sweep,
        directory,
        trials=trials,
        storage=storage,
        command=own_command(),
        restart=["ptblm", *sys.argv[1:]],
        on_stop=lambda: print_from_handler("stopping after this step; the trial is saved"),
        on_trial=_print_trial,
        on_repetition=_print_repetition,
    )
    print_messages([show])


def _print_trial(trial: "FrozenTrial") -> None:
    """Prints a line about a trial that has ended."""
    from ptblm.run.sweep.show import trial_line

    print_output([trial_line(trial)])


def _print_repetition(files: "TrialFiles", outcome: str) -> None:
    print_output([f"{files.run.name} {outcome}"])


@sweep_app.command("show")
def show_sweep(
    directory: SweepDir,
    form: Annotated[
        Literal["table", "md", "latex", "csv", "json"],
        typer.Option("--format", help="Format of the output."),
    ] = "table",
    to: Annotated[
        Path | None,
        typer.Option(
            "--to",
            "-o",
            metavar="FILE",
            help="Also write a plot: .png, .svg or .pdf.",
            parser=parse_path,
            autocompletion=complete_file,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of the plot if it exists.")
    ] = False,
    storage: Storage = None,
) -> None:
    """Show the trials of a sweep from the best to the worst, and which keys matter."""
    from ptblm.run.sweep import check_optuna

    if overwrite and to is None:
        raise UsageError("--overwrite requires --to")
    check_optuna()
    from ptblm.reporting import comparison_formats as formats
    from ptblm.reporting.sweep import finding_lines, sweep_document, trial_table
    from ptblm.run.sweep.directory import SweepDirectory
    from ptblm.run.sweep.show import summarize_sweep

    clean_up_on_stop()
    summary = summarize_sweep(SweepDirectory(directory), storage)
    if to is not None:
        from ptblm.reporting.plot_file import check_plot_file, write_plot
        from ptblm.reporting.sweep_plot import plot_sweep

        check_plot_file(to, overwrite=overwrite)
        write_plot(plot_sweep(summary), to)
    table = trial_table(summary, rounded=form != "csv")
    match form:
        case "md":
            print_output(formats.markdown_lines(table))
        case "latex":
            print_output(formats.latex_lines(table))
        case "csv":
            print_output(formats.csv_lines(table))
        case "json":
            print_json(sweep_document(summary))
        case "table":
            lines = formats.table_lines(table, sys.maxsize)  # a row for each trial, at any width
            findings = finding_lines(summary)
            print_output([*lines, *([""] if findings else []), *findings])


@sweep_app.command("best")
def show_best(directory: SweepDir, storage: Storage = None) -> None:
    """Print the config of the best trial as a YAML file for `ptblm train --config`."""
    from ptblm.run.sweep import check_optuna

    check_optuna()
    from ptblm.config.show import config_document
    from ptblm.run.sweep.directory import SweepDirectory
    from ptblm.run.sweep.show import best_config

    clean_up_on_stop()
    config = best_config(SweepDirectory(directory), storage)
    print_output(config_document(config).rstrip("\n").split("\n"))
