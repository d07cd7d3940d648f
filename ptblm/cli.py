"""The command line: thin, and quick to answer `--help`, so nothing heavy is imported up here."""

import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm import __version__
from ptblm.errors import PtblmError, UsageError
from ptblm.files import strict_json

app = typer.Typer(
    name="ptblm",
    help="Train and evaluate recurrent language models on the Penn Treebank and any other text.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
config_app = typer.Typer(help="List and show configs.", no_args_is_help=True)
app.add_typer(config_app, name="config")

_debug = False


def main() -> None:
    """Runs the command line; this is where errors become messages and exit codes."""
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


def _print_error(error: PtblmError) -> None:
    problems = "\n".join(f"{error.label}: {line}" for line in error.what.splitlines())
    print(problems + str(error).removeprefix(error.what), file=sys.stderr)


def _print_result(text: str) -> None:
    """Writes to stdout, and heeds that it may be full, or that its reader may have left."""
    try:
        print(text, flush=True)
    except OSError as error:
        # Python must not try again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(128 + signal.SIGPIPE) from None
        raise UsageError(f"can't write to standard output: {error.strerror}") from None


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


def _complete_config(incomplete: str) -> list[str]:
    from ptblm.config.loading import shipped_configs

    files = [str(path) for path in sorted(Path().glob(f"{incomplete}*.y*ml"))]
    return [name for name in shipped_configs() if name.startswith(incomplete)] + files


def _complete_run(incomplete: str) -> list[str]:
    runs = Path("runs")
    found = [str(path) for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
    return [path for path in sorted(found) if path.startswith(incomplete)]


ConfigName = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="NAME|FILE",
        help="A shipped config (small, medium, large, test) or a YAML file.",
        show_default="small",
        autocompletion=_complete_config,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the config; may be repeated."
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|DIR",
        help="'ptb', 'sample' (embedded), or a directory with {ptb.,}{train,valid,test}.txt.",
    ),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]


@app.command()
def train(
    config: ConfigName = None,
    data: Data = None,
    overrides: Set = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides the initial weights and the dropout masks.")
    ] = None,
    device: Device = None,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"] | None,
        typer.Option(help="Arithmetic of the matrix products."),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where the run is kept.", show_default="runs/CONFIG-DATA"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run that is there already, first.")
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR",
            help="Go on with a stopped run; nothing else is needed.",
            autocompletion=_complete_run,
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
        "training.seed": seed,
        "training.device": device,
        "training.precision": precision,
    }
    if resume is not None:
        if config is not None or run_dir is not None or overwrite or dry_run:
            raise UsageError(
                "--resume knows the run's config and directory",
                hint="leave out --config, --run-dir, --overwrite and --dry-run",
            )
        from ptblm.run.train import resume_run

        resume_run(resume, overrides or [], flags, sys.argv)
        return
    from ptblm.config.loading import load_config

    source = "small" if config is None else config
    loaded = load_config(source, overrides or [], flags)
    if dry_run:
        from ptblm.run.dry_run import dry_run as try_out

        _print_result("\n".join(try_out(loaded, run_dir, overwrite=overwrite)))
        return
    from ptblm.corpus.corpus import corpus_name
    from ptblm.run.train import start_run

    name = f"{Path(source).stem}-{corpus_name(loaded.data.path)}"
    start_run(loaded, name, run_dir, overwrite=overwrite, command=sys.argv)


@app.command("eval")
def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT|RUN_DIR",
            help="A checkpoint's file, or a run, whose last checkpoint is taken.",
            autocompletion=_complete_run,
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
    from ptblm.run.evaluate import evaluate_checkpoint

    evaluation = evaluate_checkpoint(
        checkpoint,
        split=split,
        data=data,
        text=text,
        device_name=device or "auto",
    )
    if as_json:
        _print_result(strict_json(evaluation.as_json(), indent=2))
    else:
        _print_result("\n".join(evaluation.lines()))


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
    from ptblm.corpus.fetch_ptb import fetch_ptb
    from ptblm.corpus.ptb import DEFAULT_DIRECTORY, MIRRORS

    mirrors = MIRRORS if url is None else (url,)
    _print_result("\n".join(fetch_ptb(to or DEFAULT_DIRECTORY, mirrors=mirrors, source=source)))


@config_app.command("list")
def list_configs() -> None:
    """List the shipped configs, each with its first line."""
    from ptblm.config.loading import shipped_configs

    texts = [path.read_text(encoding="utf-8") for path in shipped_configs().values()]
    _print_result("\n".join(text.splitlines()[0].removeprefix("# ") for text in texts))


@config_app.command("show")
def show_config(
    config: Annotated[str, typer.Argument(metavar="NAME|FILE", autocompletion=_complete_config)],
    overrides: Set = None,
) -> None:
    """Show a config, resolved, with the meaning of each key: the start of your own."""
    from ptblm.config.loading import load_config
    from ptblm.config.show import config_document

    _print_result(config_document(load_config(config, overrides or [])).rstrip())
