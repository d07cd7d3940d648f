"""`ptblm eval`."""

from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_file
from ptblm.cli.evaluation_options import (
    Cache,
    Checkpoints,
    Dynamic,
    McSamples,
    Settings,
    Temperature,
    load_typed_settings,
)
from ptblm.cli.options import Cell, Data, Device, TextSet, parse_name
from ptblm.cli.output import print_json
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output


def evaluate(
    checkpoints: Checkpoints,
    split: Annotated[
        Literal["train", "valid", "test"] | None,
        typer.Option(help="Split of the corpus.", show_default="test"),
    ] = None,
    data: Data = None,
    cell: Cell = None,
    text: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            parser=parse_name,
            autocompletion=complete_file,
            help="Evaluate on a text file instead of a corpus; `-` reads standard input.",
        ),
    ] = None,
    mode: Annotated[
        Literal["stream", "sentence", "document"],
        typer.Option(
            help="Score the text as one stream, as published results do; each line as a sentence "
            "by itself; or documents divided by blank lines."
        ),
    ] = "stream",
    settings: Settings = None,
    temperature: Temperature = None,
    mc_samples: McSamples = None,
    cache: Cache = None,
    dynamic: Dynamic = None,
    vocabulary_size: Annotated[
        int | None,
        typer.Option(
            "--vocab-pad",
            metavar="SIZE",
            help="Also report the perplexity if <unk> stands for all words of a vocabulary of this "
            "size, which makes vocabularies comparable (`lmplz --vocab_pad` of KenLM).",
        ),
    ] = None,
    overrides: TextSet = None,
    device: Device = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as one JSON object.")
    ] = False,
) -> None:
    """Evaluate a trained model on a text: perplexity, bits and unknown tokens.

    Without other options, the weights are fixed, and the probabilities are those of the softmax.
    """
    if text is not None and (split is not None or data is not None):
        raise UsageError(
            "--text replaces the corpus", hint="omit --split and --data, or omit --text"
        )
    from ptblm.cli.formats import evaluation_json, evaluation_lines
    from ptblm.run.evaluate import evaluate_checkpoint

    chosen = load_typed_settings(settings, temperature, mc_samples, cache, dynamic)
    clean_up_on_stop()
    evaluation = evaluate_checkpoint(
        checkpoints[0],
        ensemble=checkpoints[1:],
        settings=chosen,
        split=split,
        data=data,
        text=text,
        mode=mode,
        vocabulary_size=vocabulary_size,
        cell=cell,
        overrides=overrides or [],
        device_name=device or "auto",
        show_progress=True,
    )
    if as_json:
        print_json(evaluation_json(evaluation))
    else:
        print_output(evaluation_lines(evaluation))
