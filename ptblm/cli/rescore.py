"""`ptblm rescore`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_directory, complete_file
from ptblm.cli.options import (
    BASES,
    Cell,
    CheckpointOrRun,
    Device,
    MixWeight,
    parse_mix_weight,
    parse_name,
    parse_path,
)
from ptblm.cli.output import print_json
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output, print_rows


def rescore(
    checkpoint: CheckpointOrRun,
    nbest: Annotated[
        list[str],
        typer.Argument(
            metavar="NBEST",
            parser=parse_name,
            autocompletion=complete_file,
            help="N-best lists: files, which can be compressed, or `-` for standard input; for "
            "espnet, a directory with 1best_recog, 2best_recog, ...",
        ),
    ],
    format_name: Annotated[
        Literal["kaldi", "srilm", "theanolm", "nemo", "espnet", "jsonl"],
        typer.Option("--format", help="Format of the lists."),
    ],
    output: Annotated[
        Literal["scores", "word-scores", "best", "trn", "nbest"] | None,
        typer.Option(
            help="Scores of the hypotheses or of their words, which for kaldi are positive; the "
            "best hypothesis of each utterance, as `utt words` or as trn for sclite; or the lists "
            "with new scores, best hypotheses first.",
            show_default="scores for kaldi, best for espnet, otherwise nbest",
        ),
    ] = None,
    weight: Annotated[
        float | None,
        typer.Option(
            "--lm-weight",
            metavar="W",
            help="Weight of the model. The language model score of the list, if there is one, has "
            "the weight 1 - W.",
            show_default="0.5",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--lm-scale",
            metavar="S",
            help="Factor of the language model scores, relative to the acoustic score.",
            show_default="12 for kaldi, srilm and theanolm, otherwise 1",
        ),
    ] = None,
    penalty: Annotated[
        float | None,
        typer.Option(
            "--word-penalty",
            metavar="P",
            help="Score added for each word; for nemo, for each character.",
            show_default="0",
        ),
    ] = None,
    unk_penalty: Annotated[
        float | None,
        typer.Option(
            metavar="LOGP",
            help="Score of each unknown word, instead of the model's score of <unk>; 0 leaves "
            "unknown words out.",
        ),
    ] = None,
    unk_probs: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            parser=parse_name,
            autocompletion=complete_file,
            help="Multiply the probability of <unk> by that of the word, from rows `word prob`; "
            "1e-7 for other words.",
        ),
    ] = None,
    carry: Annotated[
        Literal["none", "best"],
        typer.Option(
            help="Start each utterance from the initial hidden state, or from that after the first "
            "hypothesis of the previous utterance, as Kaldi does."
        ),
    ] = "none",
    base: Annotated[
        Literal["2", "e", "10"] | None,
        typer.Option(
            help="Base of all logarithms, those of the list included.",
            show_default="10 for srilm and theanolm, otherwise e",
        ),
    ] = None,
    beam_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Hypotheses of each utterance; only for nemo."),
    ] = None,
    costs: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            parser=parse_name,
            autocompletion=complete_directory,
            help="Directory with the scores of a list of kaldi: acwt, lmwt.nolm and lmwt.lmonly.",
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=parse_path,
            autocompletion=complete_directory,
            help="Write the rescored lists to a new directory; only for srilm and espnet.",
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            parser=parse_name,
            autocompletion=complete_file,
            help="Mix with another model, word by word: output of SRILM's `ngram -ppl -debug 2` or "
            "KenLM's `query -v word -v sentence` for the hypotheses, one per line.",
        ),
    ] = None,
    mix_weight: MixWeight = None,
    reference: Annotated[
        str | None,
        typer.Option(
            "--tune",
            metavar="REFERENCE",
            parser=parse_name,
            autocompletion=complete_file,
            help="Print the weights with the lowest word error rate; those that are passed stay as "
            "they are. Rows of `utt words`, trn, or JSON with text.",
        ),
    ] = None,
    device: Device = None,
    cell: Cell = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result of --tune as one JSON object.")
    ] = False,
) -> None:
    """Rescore n-best lists of a speech recognizer with a trained model."""
    mixing = parse_mix_weight(mix_weight, mix)
    for name, value in (("--tune", reference), ("--to", to)):
        if value is not None and output is not None:
            raise UsageError(f"{name} and --output cannot be combined")
    if reference is not None and to is not None:
        raise UsageError("--tune and --to cannot be combined")
    if as_json and reference is None:
        raise UsageError("--json needs --tune", hint="--format jsonl prints JSON")
    from ptblm.cli.tune_rescoring_formats import tune_json, tune_lines
    from ptblm.run.rescore import rescore as rescored_rows
    from ptblm.run.rescore import write_lists
    from ptblm.run.rescore_request import Request
    from ptblm.run.tune_rescoring import tune_weights

    clean_up_on_stop()
    request = Request(
        checkpoint,
        nbest,
        format_name,
        weight=weight,
        scale=scale,
        penalty=penalty,
        unk_penalty=unk_penalty,
        unk_probs=unk_probs,
        carry=carry == "best",
        base=None if base is None else BASES[base],
        beam_size=beam_size,
        costs=costs,
        mix=mix,
        mix_weight=mixing,
        cell=cell,
        device_name=device or "auto",
    )
    if reference is not None:
        result = tune_weights(request, reference)
        if as_json:
            print_json(tune_json(result))
        else:
            print_output(tune_lines(result))
    elif to is not None:
        write_lists(request, to)
    else:
        print_rows(rescored_rows(request, output), unchanged=True)
