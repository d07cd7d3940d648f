"""Trains a model: locks the run directory, then starts or resumes the run."""

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.checkpoint.format import Checkpoint
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
from ptblm.run.processes import errors_of_all, follow
from ptblm.run.reproducibility import reproducibility_warnings
from ptblm.run.resume import (
    check_can_resume,
    check_changes,
    find_run,
    has_results,
    newest_usable_checkpoint,
    no_checkpoint,
    restore,
    rewrite_config,
    rewrite_last,
)
from ptblm.run.setup import RunComponents, setup_run, with_absolute_vocabulary_path
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
    world: World = ONE_PROCESS,
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
        world: the processes that train together. All of them call this function, and process 0
            alone uses the run directory and the reporter.

    Raises:
        PtblmError: any subclass. `Interrupted` means that a stop signal was received and the state
            was saved.
        SystemExit: in other processes than process 0, at the end and for an error that process 0
            reports.
    """
    reporter = reporter if reporter and world.is_main else SilentReporter()
    with contextlib.ExitStack() as stack:
        # A signal that arrives before training starts must not end the process.
        save = stack.enter_context(SaveSignal())
        job, found = _Job(None, command, reporter, save, world), None
        with errors_of_all(world):
            if world.is_main:
                path, is_new = _find_directory(run_dir, name, resume, overwrite=overwrite)
                directory = stack.enter_context(lock_run_dir(path, created=is_new))
                job = job._replace(directory=directory)
                with write_errors(path):
                    resumes = resume != "never" and bool(directory.all_checkpoints())
                if resumes:
                    diverged = directory.diverged.is_file()
                    found = _Checkpoint(*newest_usable_checkpoint(directory), diverged)
                else:
                    _check_can_start(directory, resume, overwrite=overwrite)
        # The others could read another checkpoint, or none, from their disks.
        found = world.broadcast(found)
        if found is not None:
            return _resume(job, found, config)
        if not isinstance(config, Config):
            raise ValueError("a new run needs a config, not a function")
        return _start(job, config, initial)


class _Checkpoint(NamedTuple):
    """The checkpoint that a run resumes from.

    Attributes:
        path: the file.
        checkpoint: its content.
        diverged: whether the run diverged after it.
    """

    path: Path
    checkpoint: Checkpoint
    diverged: bool


class _Job(NamedTuple):
    """The values that starting and resuming a run have in common.

    Attributes:
        directory: the locked run directory; None in other processes than process 0.
        command: the command line.
        reporter: shows the run.
        save: records save signals.
        world: the processes of the run.
    """

    directory: RunDirectory | None
    command: Sequence[str]
    reporter: Reporter
    save: SaveSignal
    world: World


def _find_directory(
    run_dir: Path | None, name: str, resume: Resume, *, overwrite: bool
) -> tuple[Path, bool]:
    """Returns the run directory, and whether it was just created.

    The caller checks it again under the lock. A directory that is not used is not changed here.
    """
    numbered = run_dir is None and resume == "never" and not overwrite
    path = run_dir or (first_free(name) if numbered else RUNS / name)
    if resume == "must":
        return find_run(path), False
    with write_errors(path):
        if resume == "never" or not RunDirectory(path).all_checkpoints():
            _check_can_start(RunDirectory(path), resume, overwrite=overwrite)
    return path, numbered


def _start(job: _Job, config: Config, initial: InitialModel | None) -> RunResult:
    """Starts a new run. An existing run is deleted only after the new run is set up."""
    with training_memory_errors(config):
        components = setup_run(config, initial=initial, world=job.world)

        def prepare(directory: RunDirectory) -> None:
            clear(directory)
            computing = components.computing()
            seed = config.training.seed
            environment = describe_environment(list(job.command), seed, computing)
            write_json(directory.environment, environment)
            write_text(directory.config, config_document(components.config))

        return _run(job, components, prepare, 0)


def _resume(job: _Job, found: _Checkpoint, config: Config | ChangeConfig) -> RunResult:
    """Resumes a run from its newest usable checkpoint."""
    path, checkpoint, diverged = found
    with errors_of_all(job.world):
        check_can_resume(checkpoint, path)
        before = checkpoint.parsed_config()
        config = config if isinstance(config, Config) else config(before)
        check_corpus(config.data, path)
        config = with_absolute_vocabulary_path(config)
        check_changes(before, config, diverged=diverged)
    with training_memory_errors(config):
        with errors_of_all(job.world):
            # Checks the weights before the other components use memory.
            model_from_checkpoint(checkpoint, before.model, path)
        # The file of the vocabulary may have changed since the run began, and another version of
        # `tokenizers` may learn other merges.
        is_fixed = config.data.vocabulary.file is not None or config.data.tokenizer == "bpe"
        vocabulary = checkpoint.parsed_vocabulary() if is_fixed else None
        components = setup_run(config, previous_matmul(checkpoint), vocabulary, world=job.world)
        with errors_of_all(job.world):
            restore(components, checkpoint, path)
        for reason in reproducibility_warnings(checkpoint, components):
            logger.info(f"{reason}; the run may not be bit-exact")

        def prepare(directory: RunDirectory) -> None:
            clear_temporary_files(directory)
            rewrite_last(directory, path, checkpoint, components.config)
            directory.result.unlink(missing_ok=True)
            directory.diverged.unlink(missing_ok=True)
            record_resumption(directory.environment, list(job.command), components.computing())
            rewrite_config(directory.config, before, components.config)

        return _run(job, components, prepare, checkpoint.metrics_offset)


def _run(
    job: _Job,
    components: RunComponents,
    prepare: Callable[[RunDirectory], None],
    metrics_offset: int,
) -> RunResult:
    """Writes the files that describe the run, and trains."""
    stopping, several = job.reporter.stopping, job.world.size > 1
    with StopSignal(stopping, one_of_several=several) as stop:
        with errors_of_all(job.world):
            if job.directory is not None:
                with write_errors(job.directory.path):
                    prepare(job.directory)
        remember_agreement(components.config)
        if job.directory is None:
            follow(components.trainer, stop, job.save, components.config.run.timeout)
        args = stop, job.save, metrics_offset, job.reporter
        return run_loop(components, job.directory, *args)


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
