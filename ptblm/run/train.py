"""Trains a model: locks the run directory, then starts or resumes the run."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.files import write_text
from ptblm.json_files import write_json
from ptblm.reporting.environment import describe_environment, record_resumption
from ptblm.reporting.reporter import Reporter, RunResult, SilentReporter
from ptblm.run.agreement import check_corpus, remember_agreement
from ptblm.run.directory import (
    RUNS,
    RunDirectory,
    check_available,
    clear,
    clear_temporary_files,
    first_free,
)
from ptblm.run.initial import InitialModel
from ptblm.run.load_model import model_from_checkpoint, previous_matmul
from ptblm.run.lock import lock_run_dir, write_errors
from ptblm.run.loop import run_loop
from ptblm.run.memory import training_memory_errors
from ptblm.run.resume import (
    check_can_resume,
    check_changes,
    find_run,
    has_results,
    newest_usable_checkpoint,
    no_checkpoint,
    reproducibility_warnings,
    restore,
    rewrite_config,
    rewrite_last,
    with_config,
)
from ptblm.run.setup import setup_run, with_absolute_vocabulary_path
from ptblm.run.signals import SaveSignal, StopSignal

logger = logging.getLogger(__name__)

Resume = Literal["never", "auto", "must"]
ChangeConfig = Callable[[Config], Config]


def train(
    config: Config | ChangeConfig,
    run_dir: Path | None = None,
    *,
    name: str = "run",
    resume: Resume = "never",
    overwrite: bool = False,
    initial: InitialModel | None = None,
    command: Sequence[str] = (),
    reporter: Reporter | None = None,
) -> RunResult:
    """Trains a model and evaluates it on the test split.

    Args:
        config: the config of the run. If `resume` is "must", it may be a function that takes the
            config of the run and returns the new config.
        run_dir: the run directory; None selects runs/NAME or, for a new run, the first of
            runs/NAME, runs/NAME-2, ... that does not exist.
        name: see `run_dir`.
        resume: "never" starts a new run, "must" resumes a run, and "auto" resumes the run if it
            has a checkpoint and starts it otherwise.
        overwrite: whether to delete an existing run in the directory.
        initial: the checkpoint that a new run takes its initial weights from, with `config` as
            `initial.config`; None for random weights. A resumed run ignores it.
        command: the command line, for environment.json.
        reporter: shows the run; None shows nothing.

    Raises:
        PtblmError: any subclass. `Interrupted` means that a stop signal was received and the state
            was saved.
    """
    reporter = reporter or SilentReporter()
    numbered = run_dir is None and resume == "never" and not overwrite
    path = run_dir or (first_free(name) if numbered else RUNS / name)
    # Checked again under the lock. Here, a directory that is not used stays untouched.
    if resume == "must":
        path = find_run(path)
    else:
        with write_errors(path):
            if resume == "never" or not RunDirectory(path).all_checkpoints():
                _check_can_start(RunDirectory(path), resume, overwrite=overwrite)
    # A signal that arrives before training starts must not end the process.
    with SaveSignal() as save, lock_run_dir(path, created=numbered) as directory:
        with write_errors(path):
            resumes = resume != "never" and bool(directory.all_checkpoints())
        if resumes:
            return _resume(directory, config, command, reporter, save)
        if not isinstance(config, Config):
            raise ValueError("a new run needs a config, not a function")
        _check_can_start(directory, resume, overwrite=overwrite)
        return _start(directory, config, initial, command, reporter, save)


def _start(
    directory: RunDirectory,
    config: Config,
    initial: InitialModel | None,
    command: Sequence[str],
    reporter: Reporter,
    save: SaveSignal,
) -> RunResult:
    """Starts a new run. An existing run is deleted only after the new run is set up."""
    with training_memory_errors(config):
        components = setup_run(config, initial=initial)
        with StopSignal(reporter.stopping) as stop:
            with write_errors(directory.path):
                clear(directory)
                environment = describe_environment(
                    list(command), config.training.seed, components.computing()
                )
                write_json(directory.environment, environment)
                write_text(directory.config, config_document(components.config))
            remember_agreement(components.config)
            return run_loop(components, directory, stop, save, 0, reporter)


def _resume(
    directory: RunDirectory,
    config: Config | ChangeConfig,
    command: Sequence[str],
    reporter: Reporter,
    save: SaveSignal,
) -> RunResult:
    """Resumes a run from its newest usable checkpoint."""
    path, checkpoint = newest_usable_checkpoint(directory)
    check_can_resume(checkpoint, path)
    before = checkpoint.parsed_config()
    config = config if isinstance(config, Config) else config(before)
    check_corpus(config.data, path)
    config = with_absolute_vocabulary_path(config)
    check_changes(before, config, diverged=directory.diverged.is_file())
    with training_memory_errors(config):
        # Checks the weights before the other components use memory.
        model_from_checkpoint(checkpoint, before.model, path)
        # The file of the vocabulary may have changed since the run began, and another version of
        # `tokenizers` may learn other merges.
        is_fixed = config.data.vocabulary.file is not None or config.data.tokenizer == "bpe"
        vocabulary = checkpoint.parsed_vocabulary() if is_fixed else None
        components = setup_run(config, previous_matmul(checkpoint), vocabulary)
        restore(components, checkpoint, path)
        for reason in reproducibility_warnings(checkpoint, components):
            logger.info(f"{reason}; the run may not be bit-exact")
        with StopSignal(reporter.stopping) as stop:
            with write_errors(directory.path):
                clear_temporary_files(directory)
                rewrite_last(directory, path, with_config(checkpoint, config))
                directory.result.unlink(missing_ok=True)
                directory.diverged.unlink(missing_ok=True)
                record_resumption(directory.environment, list(command), components.computing())
                rewrite_config(directory.config, before, components.config)
            remember_agreement(components.config)
            return run_loop(components, directory, stop, save, checkpoint.metrics_offset, reporter)


def _check_can_start(directory: RunDirectory, resume: Resume, *, overwrite: bool) -> None:
    """Checks that a new run may use the directory.

    Raises:
        UsageError: if the directory is in use for something else.
        CheckpointError: if --resume auto would delete results.
    """
    if resume == "auto":
        if has_results(directory):
            raise no_checkpoint(directory)
        check_available(directory.path, delete_with="--resume auto")
    else:
        check_available(directory.path, delete_with="--overwrite" if overwrite else None)
