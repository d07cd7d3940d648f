"""`ptblm tune-eval`."""

from pathlib import Path
from typing import Annotated

import typer

from ptblm.cli.completion import complete_file
from ptblm.cli.evaluation_options import Checkpoints
from ptblm.cli.options import Cell, Data, Device, TextSet, parse_path
from ptblm.cli.output import print_json
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def tune_eval(
    checkpoints: Checkpoints,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File for the settings, which `ptblm eval --settings FILE` reads. It is replaced.",
            parser=parse_path,
            autocompletion=complete_file,
            show_default="eval-settings.json",
        ),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Tune a neural cache: window, theta and weight.")
    ] = False,
    dynamic: Annotated[
        bool,
        typer.Option(
            "--dynamic",
            help="Tune dynamic evaluation: learning rate and decay. It reads the training text, "
            "and evaluates about ten times.",
        ),
    ] = False,
    segment_length: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            max=10_000,
            help="Tokens that dynamic evaluation scores before each update; more tokens take less "
            "time.",
            show_default="5",
        ),
    ] = None,
    mc_samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=0,
            max=10_000,
            help="Average the probabilities of N samples of the dropout masks.",
        ),
    ] = 0,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            metavar="TOKENS",
            min=1,
            help="Use only the start of the valid split.",
            show_default="all of it",
        ),
    ] = None,
    data: Data = None,
    cell: Cell = None,
    overrides: TextSet = None,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Tune the settings of an evaluation on the valid split: temperature, ensemble, cache, dynamic.

    The temperature and the weights of several checkpoints are always tuned. The test split is not
    read.
    """
    if segment_length is not None and not dynamic:
        raise UsageError("--segment-length needs --dynamic")
    from ptblm.cli.tune_eval_formats import tuned_json, tuned_lines
    from ptblm.run.tune_eval import TuneRequest, tune_evaluation

    clean_up_on_stop()
    request = TuneRequest(
        checkpoints,
        to or Path("eval-settings.json"),
        dynamic=dynamic,
        segment_length=segment_length or 5,
        cache=cache,
        mc_samples=mc_samples,
        max_tokens=max_tokens,
        data=data,
        cell=cell,
        overrides=overrides or [],
        device_name=device or "auto",
    )
    result = tune_evaluation(request, show_progress=True)
    if as_json:
        print_json(tuned_json(result))
    else:
        print_output(tuned_lines(result))
