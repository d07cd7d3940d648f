"""`ptblm export`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_directory
from ptblm.cli.options import Cell, CheckpointOrRun, parse_path
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def export(
    checkpoint: CheckpointOrRun,
    form: Annotated[
        Literal["safetensors", "onnx", "transformers"],
        typer.Option(
            "--to",
            help="Format: safetensors, for every model; onnx and transformers, for LSTM, GRU and "
            "RNN layers with a softmax.",
        ),
    ],
    directory: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Directory to create.",
            show_default="RUN-FORMAT",
            parser=parse_path,
            autocompletion=complete_directory,
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize the weights of an ONNX model to 8 bits.")
    ] = False,
    scorer: Annotated[
        bool,
        typer.Option(
            "--scorer", help="Export an ONNX model that scores sentences, for sherpa-onnx."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the directory if it is an export.")
    ] = False,
    cell: Cell = None,
) -> None:
    """Export a trained model to files that other programs read."""
    from ptblm.run.export import export_model

    clean_up_on_stop()
    path, files = export_model(
        checkpoint,
        form,
        directory,
        int8=int8,
        scorer=scorer,
        overwrite=overwrite,
        cell=cell,
    )
    print_output([f"written      {path / file}" for file in files])
