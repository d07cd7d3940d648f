"""Starts a run, or goes on with one."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

from ptblm.backend.matmul import MatmulBackend
from ptblm.checkpoint.format import Checkpoint, save_checkpoint
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.errors import CheckpointError, UsageError
from ptblm.files import write_json, write_text
from ptblm.reporting.environment import describe_environment, record_resumption
from ptblm.run.directory import (
    RunDirectory,
    clear,
    clear_leftovers,
    existing_run,
    kept_run,
    new_run,
    refuse_taken,
)
from ptblm.run.loop import TrainingRun
from ptblm.run.memory import training_memory
from ptblm.run.resume import (
    newest_good_checkpoint,
    refuse_changes,
    reproducibility_warnings,
    restore,
    rewrite_config,
)
from ptblm.run.setup import RunComponents, setup_run, trained_model
from ptblm.run.signals import StopSignal


def start_run(
    config: Config, name: str, run_dir: Path | None, *, overwrite: bool, command: list[str]
) -> None:
    """Trains from the beginning.

    Args:
        config: of the run.
        name: of its directory, where `run_dir` does not say.
        run_dir: where it is kept; None lets `name` decide.
        overwrite: whether a run that is there already is deleted first.
        command: as typed, for the record.

    Raises:
        PtblmError: of any kind; `Interrupted` after a signal, with all saved.
    """
    if run_dir is not None:
        refuse_taken(run_dir, overwrite=overwrite)
    with training_memory(config):
        components = setup_run(config)
        with (
            StopSignal() as stop,
            new_run(run_dir, name, overwrite=overwrite) as directory,
        ):
            _begin(components, directory, stop, command)


def resume_run(run_dir: Path, change: Callable[[Config], Config], command: list[str]) -> None:
    """Goes on with a run from its last checkpoint, as if it had never stopped.

    Args:
        run_dir: of the run.
        change: makes the config to go on with from the run's own; only keys may change that
            leave what was done as it was.
        command: as typed, for the record.

    Raises:
        PtblmError: as `start_run` does; `ConfigError` for a key that may not change.
    """
    with existing_run(run_dir) as directory:
        _go_on(directory, change, command)


def start_or_resume_run(config: Config, run_dir: Path, command: list[str]) -> None:
    """Goes on with the run in `run_dir` if it has a checkpoint, else starts there.

    Which of the two is decided with the directory in hand: nobody else can begin in between.

    Raises:
        PtblmError: as `start_run` and `resume_run` do.
    """
    with kept_run(run_dir) as directory:
        if directory.all_checkpoints():
            _go_on(directory, lambda _: config, command)
            return
        if _has_figures(directory):
            raise CheckpointError(
                "a run with figures, but without checkpoints: there is nothing to go on from",
                where=str(run_dir),
                hint="--overwrite instead of --resume auto to start anew, or another --run-dir",
            )
        # What was killed before its first checkpoint has nothing to lose.
        refuse_taken(run_dir, overwrite=True)
        with training_memory(config):
            components = setup_run(config)
            with StopSignal() as stop:
                clear(directory)
                _begin(components, directory, stop, command)


def _begin(
    components: RunComponents, directory: RunDirectory, stop: StopSignal, command: list[str]
) -> None:
    """Trains from the beginning in an empty directory."""
    seed = components.config.training.seed
    with _writing(directory):
        write_json(directory.environment, describe_environment(command, seed, components.device))
        write_text(directory.config, config_document(components.config))
        run = TrainingRun(components, directory, stop, metrics_offset=0)
    run.conduct()


def _go_on(directory: RunDirectory, change: Callable[[Config], Config], command: list[str]) -> None:
    """Trains from the last checkpoint."""
    path, checkpoint = newest_good_checkpoint(directory)
    before = checkpoint.parsed_config()
    config = change(before)
    refuse_changes(before, config, diverged=directory.diverged.is_file())
    with training_memory(config):
        trained_model(before.model, checkpoint, path)  # refuses, before memory is spent
        # Checkpoints of old did not say, since there was no other way.
        components = setup_run(config, cast(MatmulBackend, checkpoint.versions["products"]))
        restore(components, checkpoint, path)
        for reason in reproducibility_warnings(checkpoint, components):
            print(
                f"note: {reason}; the run may not end bit for bit as it would have",
                file=sys.stderr,
            )
        with StopSignal() as stop:
            with _writing(directory):
                clear_leftovers(directory)
                _renew_last(directory, path, replace(checkpoint, config=config.model_dump()))
                directory.result.unlink(missing_ok=True)
                directory.diverged.unlink(missing_ok=True)
                record_resumption(directory.environment, command, components.device)
                rewrite_config(directory.config, before, components.config)
                run = TrainingRun(components, directory, stop, checkpoint.metrics_offset)
            run.conduct()


def _renew_last(directory: RunDirectory, path: Path, checkpoint: Checkpoint) -> None:
    """Makes the last checkpoint the one that the run goes on from, with the config it goes on by.

    A damaged one is put aside, and not deleted: it is its owner's.
    """
    if path != directory.last and directory.last.exists():
        os.replace(directory.last, directory.last.with_name("last.safetensors.bad"))
    if path != directory.last or directory.diverged.is_file():
        save_checkpoint(directory.last, checkpoint)


def _has_figures(directory: RunDirectory) -> bool:
    """Whether a run got as far as an epoch's end, a result, or a divergence."""
    if directory.result.exists() or directory.diverged.exists():
        return True
    return directory.metrics.exists() and b'"kind": "epoch"' in directory.metrics.read_bytes()


@contextlib.contextmanager
def _writing(directory: RunDirectory) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"can't write into the run directory: {error.strerror or error}",
            where=str(error.filename or directory.path),
            hint="make room, or another --run-dir",
        ) from None
