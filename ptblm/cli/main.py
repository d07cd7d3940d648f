"""The command line: thin, and quick to answer `--help`, so nothing heavy is imported up here."""

import logging
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from ptblm import __version__
from ptblm.cli.checkpoint_commands import checkpoint_app
from ptblm.cli.config_commands import config_app
from ptblm.cli.options import ConfigName, Data, Device, Set, complete_run
from ptblm.cli.output import configure_logging, open_standard_streams, print_result
from ptblm.errors import PtblmError, UsageError
from ptblm.files import strict_json

logger = logging.getLogger(__name__)

app = typer.Typer(
    name="ptblm",
    help="Train and evaluate recurrent language models on the Penn Treebank and any other text.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(config_app, name="config")
app.add_typer(checkpoint_app, name="checkpoint")

_debug = False


def main() -> None:
    """Runs the command line; this is where errors become messages and exit codes."""
    open_standard_streams()
    configure_logging()
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    try:
        app()
    except PtblmError as error:
        if _debug:
            traceback.print_exc()
        _print_error(error)
        sys.exit(error.exit_code)
    except Exception:
        traceback.print_exc()
        print("\nThis is a bug in ptblm. Please report it, with the lines above.", file=sys.stderr)
        sys.exit(1)


def _end(number: int, _frame: object) -> NoReturn:
    """Ends what has nothing to save, evaluation or a download, with the signal's exit code."""
    sys.exit(128 + number)


def _print_error(error: PtblmError) -> None:
    problems = "\n".join(f"{error.label}: {line}" for line in error.what.splitlines())
    print(problems + str(error).removeprefix(error.what), file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ptblm {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show errors with tracebacks.")] = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    global _debug
    _debug = debug


@app.command()
def train(
    config: ConfigName = None,
    data: Data = None,
    tokenizer: Annotated[
        Literal["word", "char", "byte"] | None,
        typer.Option(help="What a token is."),
    ] = None,
    overrides: Set = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides the initial weights and the dropout masks.")
    ] = None,
    device: Device = None,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"] | None,
        typer.Option(help="Of the matrix products."),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the run is kept.", show_default="runs/CONFIG-DATA"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is there already, first.")
    ] = False,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="On CUDA, repeat bit for bit; slower.")
    ] = False,
    no_fused: Annotated[
        bool,
        typer.Option("--no-fused", help="Do not use fused kernels; slower."),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR|auto",
            help="Go on with a stopped run; auto starts one if there is none yet.",
            autocompletion=complete_run,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Load everything, make one step, say what a run would take."
        ),
    ] = False,
) -> None:
    """Train a model, and test it at the end."""
    flags = {
        "data.path": data,
        "data.tokenizer": tokenizer,
        "training.seed": seed,
        "run.device": device,
        "run.precision": precision,
        "run.deterministic": deterministic or None,
        "run.fused": False if no_fused else None,
    }
    if resume is not None and str(resume) != "auto":
        if config is not None or run_dir is not None or overwrite or dry_run:
            raise UsageError(
                "--resume knows the run's config and directory",
                hint="leave out --config, --run-dir, --overwrite and --dry-run",
            )
        from ptblm.config.loading import override_config
        from ptblm.reporting.console import ConsoleReporter
        from ptblm.run.train import train as run_training

        run_training(
            lambda run: override_config(run, overrides or [], flags),
            resume,
            resume="must",
            command=sys.argv,
            reporter=ConsoleReporter(),
        )
        return
    from ptblm.config.loading import load_config

    source = "small" if config is None else config
    loaded = load_config(source, overrides or [], flags)
    if dry_run:
        from ptblm.cli.formats import dry_run_lines
        from ptblm.run.dry_run import dry_run as try_out

        print_result("\n".join(dry_run_lines(try_out(loaded, run_dir, overwrite=overwrite))))
        return
    from ptblm.corpus.splits import corpus_name
    from ptblm.reporting.console import ConsoleReporter
    from ptblm.run.train import train as run_training

    if resume is not None and overwrite:
        raise UsageError("--resume auto continues a run, and --overwrite deletes it: pass one")
    run_training(
        loaded,
        run_dir,
        name=f"{Path(source).stem}-{corpus_name(loaded.data.path)}",
        resume="never" if resume is None else "auto",
        overwrite=overwrite,
        command=sys.argv,
        reporter=ConsoleReporter(),
    )


@app.command("eval")
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT|RUN_DIR",
            help="A checkpoint's file, or a run, whose last checkpoint is taken.",
            autocompletion=complete_run,
        ),
    ],
    split: Annotated[
        Literal["train", "valid", "test"] | None,
        typer.Option(help="Of the corpus.", show_default="test"),
    ] = None,
    data: Data = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="FILE|-", help="Score any text instead; - is standard input."),
    ] = None,
    device: Device = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Score a text with a trained model."""
    if text is not None and (split is not None or data is not None):
        raise UsageError("--text is a text of its own: leave out --split and --data")
    from ptblm.cli.formats import evaluation_json, evaluation_lines
    from ptblm.run.evaluate import evaluate_checkpoint

    evaluation = evaluate_checkpoint(
        checkpoint,
        split=split,
        data=data,
        text=text,
        device_name=device or "auto",
        show_progress=True,
    )
    if as_json:
        print_result(strict_json(evaluation_json(evaluation), indent=2))
    else:
        print_result("\n".join(evaluation_lines(evaluation)))


@app.command("download-data")
def download_data(
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the files go.", show_default="data/ptb"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="An archive, or a folder of files (ends in /)."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="ARCHIVE|DIR", help="Take it from this machine instead."),
    ] = None,
) -> None:
    """Fetch the Penn Treebank and verify it.

    Its text is free for research only; see https://catalog.ldc.upenn.edu/LDC99T42.
    """
    if url is not None and source is not None:
        raise UsageError("--url and --from are two sources: give one")
    from ptblm.corpus.datasets import DATASETS
    from ptblm.corpus.datasets.fetch import fetch

    result = fetch(DATASETS["ptb"], to, urls=None if url is None else [url], source=source)
    for failure in result.failures:
        logger.warning("%s", failure)
    if result.missing:
        logger.warning("not found: %s", ", ".join(result.missing))
    print_result(
        f"{result.directory} contains {len(result.verified)} verified files: "
        f"{', '.join(result.verified)}"
    )
