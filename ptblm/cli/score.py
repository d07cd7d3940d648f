"""`ptblm score`."""

import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ptblm import __version__
from ptblm.cli.completion import complete_file
from ptblm.cli.evaluation_options import (
    Cache,
    Dynamic,
    Ensemble,
    McSamples,
    Settings,
    Temperature,
    load_typed_settings,
)
from ptblm.cli.options import (
    BASES,
    Cell,
    CheckpointOrRun,
    Device,
    MixWeight,
    TextSet,
    parse_mix_weight,
    parse_name,
    parse_path,
)
from ptblm.cli.score_options import check_mix, chosen_columns, reject
from ptblm.errors import UsageError
from ptblm.paths import expand_path
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_rows

if TYPE_CHECKING:
    from ptblm.evaluation.line_scores import ScoredLine
    from ptblm.run.load_model import LoadedModel

_MAX_TOP = 100


def score(
    checkpoint: CheckpointOrRun,
    text: Annotated[
        str,
        typer.Argument(
            metavar="FILE|-",
            parser=parse_name,
            autocompletion=complete_file,
            help="Text, also compressed (.gz), with one sentence per line; `-` reads standard "
            "input.",
        ),
    ] = "-",
    mode: Annotated[
        Literal["stream", "sentence", "document"] | None,
        typer.Option(
            help="Score each line as a sentence by itself; documents divided by blank lines; or "
            "the text as one stream.",
            show_default="sentence",
        ),
    ] = None,
    tokenize: Annotated[
        Literal["none", "ptb", "ptb-lower"],
        typer.Option(
            help="Split punctuation and contractions from words as in the Penn Treebank; "
            "`ptb-lower` also converts to lower case."
        ),
    ] = "none",
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="More columns, separated by commas: entropy, entropy_reduction, rank, unknown, "
            "frequency (log2 of the training count), length (characters).",
            show_default="none",
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=1,
            max=_MAX_TOP,
            help="Also print the K most probable tokens at the position of each token.",
        ),
    ] = None,
    base: Annotated[
        Literal["2", "e", "10"] | None,
        typer.Option(
            help="Base of the logarithms.",
            show_default="2; 10 for srilm and kenlm; e for kaldi",
        ),
    ] = None,
    format_name: Annotated[
        Literal[
            "tsv",
            "words",
            "sentences",
            "jsonl",
            "neural-complexity",
            "lm-zoo",
            "srilm",
            "kenlm",
            "kaldi",
        ]
        | None,
        typer.Option(
            "--format",
            help="A row per token, word or sentence; JSON Lines; or the output of another tool.",
            show_default="tsv",
        ),
    ] = None,
    header: Annotated[
        bool,
        typer.Option("--header", help="Print checkpoint, mode and base as comments (#) first."),
    ] = False,
    states: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=parse_path,
            help="Also write the hidden states that predict the tokens to a NumPy file (.npz).",
        ),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="FILE is a table (TSV or CSV) with a header and one word per row; print it with "
            "the scores as more columns.",
        ),
    ] = False,
    word: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Column of the words.", show_default="word"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that divides the rows of the table into texts, such as the item.",
            show_default="one text",
        ),
    ] = None,
    previous: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=10, help="Also append the scores of the N words before."
        ),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            parser=parse_name,
            autocompletion=complete_file,
            help="Mix with another model, word by word: output of SRILM's `ngram -ppl -debug 2` or "
            "KenLM's `query -v word -v sentence` for the text.",
        ),
    ] = None,
    mix_weight: MixWeight = None,
    batch_size: Annotated[
        int,
        typer.Option(
            metavar="B",
            min=1,
            max=4096,
            help="Sentences that are scored at once. The last digits of a score depend on it; 1 "
            "scores each sentence independently of the others.",
        ),
    ] = 64,
    ensemble: Ensemble = None,
    settings: Settings = None,
    temperature: Temperature = None,
    mc_samples: McSamples = None,
    cache: Cache = None,
    dynamic: Dynamic = None,
    cell: Cell = None,
    overrides: TextSet = None,
    device: Device = None,
) -> None:
    """Print the surprisal of each token of a text: -log2 of its probability in its context."""
    not_for_table: dict[str, object] = {"--mode": mode, "--top": top, "--states": states}
    not_for_table |= {"--format": format_name, "--mix": mix}
    only_for_table = {"--word": word, "--by": by, "--previous": previous}
    if table:
        reject({**not_for_table, "--header": header or None}, "cannot be combined with --table")
    else:
        reject(only_for_table, "needs --table")
    from ptblm.reporting.score_formats import FORMATS
    from ptblm.reporting.score_formats.columns import Request, measures
    from ptblm.run.mixing import check_words, mixed_lines
    from ptblm.run.pipelines import load_models, make_pipeline
    from ptblm.run.score import Scoring

    name = format_name or ("words" if table else "tsv")
    form = FORMATS[name]
    chosen = chosen_columns(columns, name, form)
    if top is not None and not form.top:
        raise UsageError(
            f"--top: --format {name} contains no predictions",
            hint=f"use --format {', '.join(each for each in FORMATS if FORMATS[each].top)}",
        )
    mixing = parse_mix_weight(mix_weight, mix)
    if mix is not None:
        check_mix(text, mix, mode, (*chosen, *(["--top"] if top else [])))
    if header and not form.comments:
        raise UsageError(f"--header: --format {name} cannot contain comments")
    if mode == "stream" and form.complete:
        raise UsageError(
            f"--mode stream: --format {name} needs a probability of every token, and the first "
            "token of a stream has none",
            hint="use --mode document, which starts after the token that ends a line",
        )
    how = load_typed_settings(settings, temperature, mc_samples, cache, dynamic)
    if states is not None and (ensemble or not how.is_static()):
        raise UsageError("--states: the hidden states are those of one model with fixed weights")
    clean_up_on_stop()
    models = load_models([checkpoint, *(ensemble or [])], device or "auto", cell)
    loaded = models[0]
    if form.words_only and loaded.tokenizer.unit != "word":
        raise UsageError(
            f"--format {name} needs a model of words, and the tokens of the model are "
            f"{loaded.tokenizer.unit}s",
            hint="use --format tsv or --format words",
        )
    if mix is not None:
        check_words(loaded, "--mix")
    top = min(top or 0, len(loaded.tokenizer.vocabulary))
    scoring = Scoring(
        mode or "sentence",
        measures(chosen, top, states=states is not None),
        tokenize,
        has_ids=name == "kaldi",
        batch_size=batch_size,
        pipeline=make_pipeline(models, how, show_progress=True),
    )
    number = form.base if base is None else BASES[base]
    carried = scoring.mode != "sentence"
    request = Request(loaded.tokenizer, number, chosen, top, carried, text)
    if table:
        from ptblm.run.score_table import TableOptions, score_table

        options = TableOptions(word or "word", by, previous or 0)
        rows = score_table(loaded, text, options, request, scoring, overrides or [])
        print_rows(rows, unchanged=True)
        return
    from ptblm.evaluation.state_file import write_states
    from ptblm.run.score import score_text

    lines = score_text(loaded, text, scoring, overrides or [])
    if mix is not None:
        lines = mixed_lines(lines, text, mix, mixing)
    if states is not None:
        inputs = [loaded.path] if text == "-" else [loaded.path, expand_path(text)]
        lines = write_states(lines, states, loaded.model, inputs)
    typed = text == "-" and sys.stdin.isatty()
    if not typed:  # an error at the start of a file precedes all output
        lines = _started(lines)
    if header:
        from ptblm.evaluation.scorers.description import method_steps

        comments = _comments(loaded, scoring.mode, base or "2", tokenize)
        steps = [f"# evaluation: {step}" for step in method_steps(how.active(), len(models))]
        print_rows([*comments, *steps, *([] if mix is None else [f"# mix: {mix}"])])
    print_rows(chain.from_iterable(form.write(lines, request)), at_once=typed)


def _started(lines: Iterator["ScoredLine"]) -> Iterator["ScoredLine"]:
    """Returns the lines, the first of which has been scored."""
    first = next(lines, None)
    return lines if first is None else chain([first], lines)


def _comments(loaded: "LoadedModel", mode: str, base: str, tokenize: str) -> list[str]:
    return [
        f"# ptblm {__version__}",
        f"# checkpoint: {loaded.path}",
        f"# mode: {mode}",
        f"# base: {base}",
        f"# tokenize: {tokenize}",
    ]
