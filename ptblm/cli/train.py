"""`ptblm train`."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ptblm.cli.completion import complete_directory, complete_run
from ptblm.cli.options import Cell, ConfigName, Data, Device, Set, parse_path
from ptblm.cli.output import is_quiet, silence
from ptblm.errors import UsageError
from ptblm.run.signals import clean_up_on_stop
from ptblm.terminal import print_output

_MAX_NAME = 100  # characters of the name of a run directory; file systems allow 255 bytes


def train(
    config: ConfigName = None,
    data: Data = None,
    tokenizer: Annotated[
        Literal["word", "char", "byte", "bpe"] | None,
        typer.Option(help="Tokenizer.", show_default="word"),
    ] = None,
    cell: Cell = None,
    overrides: Set = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Random seed for initial weights and dropout masks.", show_default="0"),
    ] = None,
    device: Device = None,
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"] | None,
        typer.Option(help="Precision of matrix multiplications.", show_default="fp32"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Run directory.",
            show_default="runs/CONFIG-DATA",
            parser=parse_path,
            autocompletion=complete_directory,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in the run directory first.")
    ] = False,
    deterministic: Annotated[
        bool,
        typer.Option("--deterministic", help="Use only deterministic CUDA kernels; slower."),
    ] = False,
    no_fused: Annotated[
        bool,
        typer.Option(
            "--no-fused", help="Use the reference implementation without fused kernels; slower."
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN_DIR|auto",
            parser=parse_path,
            help="Resume a run. `auto` resumes the run if it exists and starts it otherwise.",
            autocompletion=complete_run,
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="CHECKPOINT|RUN_DIR",
            parser=parse_path,
            help="Start a new run with the weights, the vocabulary and, without --config, the "
            "config of a checkpoint.",
            autocompletion=complete_run,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run the first steps and report parameters, estimated time and memory.",
        ),
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of processes on this machine that train together, as with torchrun.",
            show_default="1",
        ),
    ] = None,
) -> None:
    """Train a model and evaluate it on the test split."""
    from ptblm.config.loading import load_config, override_config

    overrides = overrides or []
    flags = {
        "data.path": data,
        "data.tokenizer": tokenizer,
        "model.cell.type": cell,
        "training.seed": seed,
        "run.device": device,
        "run.precision": precision,
        "run.deterministic": deterministic or None,
        "run.fused": False if no_fused else None,
    }
    if resume is not None and str(resume) == "AUTO" and not resume.exists():
        raise UsageError("--resume AUTO: no such run directory", hint="did you mean --resume auto?")
    resumes_run = resume is not None and str(resume) != "auto"
    if resumes_run and (config or run_dir or overwrite or init or dry_run):
        raise UsageError(
            "--resume RUN_DIR takes the config and the run directory from the run",
            hint="omit --config, --run-dir, --overwrite, --init and --dry-run",
        )
    if resume is not None and overwrite:
        raise UsageError(
            "--resume auto continues a run, and --overwrite deletes it",
            hint="pass one of the two options",
        )
    if processes is not None and processes > 1:
        from ptblm.run.launch import launch

        if dry_run:
            raise UsageError("--dry-run estimates a run of one process", hint="omit --processes")
        raise typer.Exit(launch(processes, sys.argv[1:]))
    from ptblm.backend.joining import joined_world
    from ptblm.cli.formats import dry_run_lines
    from ptblm.corpus.splits import corpus_name
    from ptblm.files import os_errors
    from ptblm.reporting.console import ConsoleReporter
    from ptblm.run.agreement import allow_typed
    from ptblm.run.directory import RunDirectory
    from ptblm.run.dry_run import dry_run as make_dry_run
    from ptblm.run.initial import load_initial_model
    from ptblm.run.processes import errors_of_all
    from ptblm.run.train import train as train_model

    clean_up_on_stop()
    allow_typed(overrides, flags)
    with joined_world() as world:
        if not world.is_main:
            silence(f"process {world.rank}")
        has_run = False
        with errors_of_all(world), os_errors(UsageError, where=run_dir):
            if init and resume and run_dir:
                has_run = bool(RunDirectory(run_dir).all_checkpoints())
        if world.broadcast(has_run):
            resume, resumes_run = run_dir, True  # the initial checkpoint may be gone
        with errors_of_all(world):
            if dry_run and world.size > 1:
                raise UsageError("--dry-run estimates a run of one process")
            initial = None
            if not resumes_run:
                if init is not None:
                    initial = load_initial_model(init, config, overrides, flags)
                source = config or (initial.name if initial else "small")
                loaded = initial.config if initial else load_config(source, overrides, flags)
        reporter = ConsoleReporter(quiet=is_quiet())
        if resumes_run:
            train_model(
                lambda config_of_run: override_config(config_of_run, overrides, flags),
                resume,
                resume="must",
                command=sys.argv,
                reporter=reporter,
                world=world,
            )
            return
        if dry_run:
            estimates = make_dry_run(loaded, run_dir, overwrite=overwrite, initial=initial)
            print_output(dry_run_lines(estimates))
            return
        train_model(
            loaded,
            run_dir,
            name=f"{Path(source).stem}-{corpus_name(loaded.data.path)}"[:_MAX_NAME],
            resume="never" if resume is None else "auto",
            overwrite=overwrite,
            initial=initial,
            command=sys.argv,
            reporter=reporter,
            world=world,
        )
