"""`ptblm compare`."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_run
from ptblm.cli.options import Cell, Data, Device, parse_path
from ptblm.cli.output import print_json
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output, print_rows


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN_DIR...",
            help="Run directories, or directories that contain runs; a run can be in progress.",
            parser=parse_path,
            autocompletion=complete_run,
        ),
    ],
    by_seed: Annotated[
        bool,
        typer.Option(
            "--by-seed",
            help="Show finished runs that differ only by the seed as one row: n, mean, standard "
            "deviation, range.",
        ),
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            parser=parse_path,
            autocompletion=complete_run,
            help="Evaluate all models, and show the ratio of each perplexity to that of this run, "
            "with a 95% confidence interval (paired bootstrap over sentences).",
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN", help="Sort by a column, such as test, hours or hidden_size."
        ),
    ] = None,
    form: Annotated[
        Literal["table", "md", "latex", "csv", "json"],
        typer.Option("--format", help="Format of the output."),
    ] = "table",
    curves: Annotated[
        bool,
        typer.Option(
            "--curves", help="Print the recorded curves as CSV: run, step, epoch, name, value."
        ),
    ] = False,
    split: Annotated[
        Literal["train", "valid", "test"] | None,
        typer.Option(help="Split of the corpus for --against.", show_default="test"),
    ] = None,
    data: Data = None,
    cell: Cell = None,
    device: Device = None,
) -> None:
    """Compare runs: config keys that differ, perplexity, speed and time."""
    if curves and (by_seed or against or sort or form not in ("table", "csv")):
        raise UsageError(
            "--curves prints recorded values as CSV",
            hint="omit --by-seed, --against, --sort and --format",
        )
    if by_seed and against:
        raise UsageError("--against compares single runs", hint="omit --by-seed")
    if against is None and (split or data or cell or device):
        raise UsageError("--split, --data, --cell and --device belong to --against")
    from ptblm.reporting import comparison_formats as formats
    from ptblm.reporting.compare import compare_runs, read_runs, sort_rows
    from ptblm.reporting.compare import curves as recorded_curves

    clean_up_on_stop()
    histories = read_runs(runs)
    if curves:
        print_rows(formats.curves_csv(recorded_curves(histories)))
        return
    ratios = None
    if against is not None:
        from ptblm.run.compare import ratios_to

        ratios = ratios_to(
            against,
            [run.path for run in histories],
            split=split or "test",
            data=data,
            cell=cell,
            device_name=device or "auto",
            show_progress=True,
        )
    comparison = compare_runs(histories, by_seed=by_seed, ratios=ratios)
    if sort is not None:
        comparison = sort_rows(comparison, sort)
    match form:
        case "md":
            print_output(formats.markdown_lines(comparison))
        case "latex":
            print_output(formats.latex_lines(comparison))
        case "csv":
            print_output(formats.csv_lines(comparison))
        case "json":
            of_ratios = None if against is None else split or "test"
            print_json(formats.json_document(comparison, of_ratios))
        case "table":
            lines = formats.table_lines(comparison, shutil.get_terminal_size().columns)
            if against is not None:
                other = Path(os.path.abspath(against)).name
                lines += ["", *formats.ratio_sentences(comparison, other, split or "test")]
            print_output(lines)
