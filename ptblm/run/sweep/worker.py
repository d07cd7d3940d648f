"""A worker of a sweep: it draws trials, trains them, and resumes those of dead workers.

A trial is running as long as its state is not final. A worker that trains it holds its lock file,
which the operating system releases when the worker ends. A running trial with a free lock is thus
the trial of a dead worker, and the next worker that looks for a trial resumes it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.config.sweep_space import Draw, Sweep
from ptblm.errors import ConfigError, Interrupted, PtblmError, UsageError
from ptblm.files import write_text
from ptblm.paths import shell_join
from ptblm.run.lock import is_locked, try_lock
from ptblm.run.signals import StopSignal
from ptblm.run.sweep import child
from ptblm.run.sweep.directory import SweepDirectory, TrialFiles
from ptblm.run.sweep.study import draw_values, make_sampler
from ptblm.training.records import EpochDone

logger = logging.getLogger(__name__)

MAX_FAILURES = 3  # trials in a row that end with an error
_SECONDS = 0.5  # between two attempts to take a trial that another process holds
ERROR = "error"  # the attribute of a trial that ended with an error


@dataclass(frozen=True)
class Worker:
    """What a worker needs for each trial.

    Attributes:
        sweep: the sweep.
        directory: the sweep directory.
        study: the trials.
        storage: their storage.
        command: the words that start `ptblm`.
        restart: the command line that starts this worker again, for messages.
        stop: whether this worker received a stop signal.
    """

    sweep: Sweep
    directory: SweepDirectory
    study: optuna.Study
    storage: BaseStorage
    command: Sequence[str]
    restart: Sequence[str]
    stop: StopSignal

    def check_stop(self) -> None:
        """Raises Interrupted after a stop signal."""
        if self.stop.received is not None:
            raise Interrupted(self.stop.received, hint=shell_join(self.restart))


class _Taken(NamedTuple):
    """A trial that this worker holds, its values, and its lock, if the file system has locks."""

    trial: optuna.Trial
    draw: Draw
    lock: FileLock | None


def run_trials(worker: Worker, limit: int | None, on_trial: Callable[[FrozenTrial], None]) -> None:
    """Trains trials until there are enough.

    Args:
        worker: the worker.
        limit: number of trials of all workers; None for all of a grid.
        on_trial: called with each trial that this worker has ended.

    Raises:
        Interrupted: after a stop signal. The trial was saved and can be continued.
        PtblmError: if three trials in a row ended with an error.
    """
    failures = 0
    while (taken := _take(worker, limit)) is not None:
        trial = taken.trial
        try:
            _train(worker, taken)
            failures = 0
        except Interrupted:
            raise
        except PtblmError as error:
            failures += 1
            trial.set_user_attr(ERROR, error.what)
            worker.study.tell(trial, state=TrialState.FAIL)
            if failures == MAX_FAILURES:
                raise
            logger.warning(f"trial {trial.number} failed: {error.what} ({error.where})")
        finally:
            if taken.lock is not None:
                taken.lock.release()
        on_trial(worker.study.get_trials()[trial.number])


@contextlib.contextmanager
def choosing(directory: SweepDirectory) -> Iterator[None]:
    """Locks the sweep, so that one worker at a time chooses a trial."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(NotImplementedError):  # a file system without locks
            while (lock := try_lock(directory.lock)) is None:
                time.sleep(0.05)
            stack.callback(lock.release)
        yield


def _take(worker: Worker, limit: int | None) -> _Taken | None:
    """Returns the next trial; None if none is left for this worker.

    If the best trials are repeated, it waits for the trials of other workers.
    """
    has_waited = False
    while True:
        worker.check_stop()
        with choosing(worker.directory):
            taken, is_waiting = _continued(worker)
            if taken is None and not _has_enough(worker, limit):
                taken = _new(worker)
        if taken is not None or not is_waiting:
            return taken
        if not has_waited:
            logger.info("waiting for trials that other processes train")
        has_waited = True
        time.sleep(_SECONDS)


def _continued(worker: Worker) -> tuple[_Taken | None, bool]:
    """Returns a trial of a dead worker, if any, and whether to wait for others to end."""
    is_waiting = False
    for running in worker.study.get_trials(states=[TrialState.RUNNING]):
        files = worker.directory.trial(running.number)
        try:
            lock = try_lock(files.lock)
            if lock is None:
                is_waiting |= worker.sweep.settings.repeat_best is not None
                continue
            if worker.study.get_trials()[running.number].state != TrialState.RUNNING:
                lock.release()  # its worker ended it just before we had the lock
                continue
            if is_locked(files.run):  # the child of a dead worker is still saving
                lock.release()
                is_waiting = True
                continue
        except NotImplementedError:
            logger.debug("the file system has no locks; trials of dead workers are not continued")
            continue
        study_id = worker.storage.get_study_id_from_name(worker.study.study_name)
        trial_id = worker.storage.get_trial_id_from_study_id_trial_number(study_id, running.number)
        worker.study.sampler = make_sampler(worker.sweep, running.number)
        trial = optuna.Trial(worker.study, trial_id)
        logger.info(f"trial {running.number} is resumed because its worker has ended")
        return _Taken(trial, draw_values(trial, worker.sweep), lock), False
    return None, is_waiting


def _has_enough(worker: Worker, limit: int | None) -> bool:
    """Returns whether enough trials were started. Those that ended with an error do not count."""
    trials = worker.study.get_trials(deepcopy=False)
    waiting = sum(trial.state == TrialState.WAITING for trial in trials)
    if worker.sweep.settings.sampler == "grid" and not waiting:
        return True
    failed = sum(ERROR in trial.user_attrs for trial in trials)
    return limit is not None and len(trials) - waiting - failed >= limit


def _new(worker: Worker) -> _Taken:
    """Draws and locks a new trial."""
    number = len(worker.study.get_trials(deepcopy=False))
    worker.study.sampler = make_sampler(worker.sweep, number)
    trial = worker.study.ask()
    lock = None
    with contextlib.suppress(NotImplementedError):
        lock = try_lock(worker.directory.trial(trial.number).lock)
    return _Taken(trial, draw_values(trial, worker.sweep), lock)


def _train(worker: Worker, taken: _Taken) -> None:
    """Trains a trial until it ends, and records how it ended.

    Raises:
        Interrupted: after a stop signal. The trial stays a running one, and can be continued.
        PtblmError: if the run failed.
    """
    trial, study = taken.trial, worker.study
    files = worker.directory.trial(trial.number)
    try:
        config = worker.sweep.config(taken.draw)
    except ConfigError as error:
        raise ConfigError(error.problems, where=f"trial {trial.number}", hint=error.hint) from None
    write_text(files.config, config_document(config))
    reported = dict(study.get_trials()[trial.number].intermediate_values)
    is_pruned = False

    def report(epochs: list[EpochDone]) -> bool:
        nonlocal is_pruned
        for done in epochs:
            if done.epoch not in reported:
                reported[done.epoch] = done.valid_perplexity
                trial.report(done.valid_perplexity, done.epoch)
                logger.debug(
                    f"trial {trial.number}: epoch {done.epoch}, "
                    f"valid perplexity {done.valid_perplexity:.2f}"
                )
        is_last = len(epochs) == config.training.epochs
        is_pruned = is_pruned or (not is_last and trial.should_prune())
        return is_pruned

    code = child.train_in_child(
        train_command(worker, files, config, is_tested=False), files, worker.stop, report
    )
    if code == child.STOPPED and not is_pruned:
        worker.check_stop()
        raise UsageError("the run was stopped by another process", where=str(files.log))
    if code == child.DIVERGED:
        trial.set_user_attr("note", "diverged")
        study.tell(trial, state=TrialState.FAIL)
    elif code == child.FINISHED:
        study.tell(trial, min(reported.values()))
    else:
        study.tell(trial, state=TrialState.PRUNED)


def train_command(
    worker: Worker,
    files: TrialFiles,
    config: Config,
    *,
    is_tested: bool,
    seed: int | None = None,
) -> list[str]:
    """Returns the command that starts or resumes the run of a trial.

    It names the config as a file: a custom cell runs only if the user agreed to that before. The
    user named the text with the sweep, so it may be read on any machine.
    """
    options = [f"--config={files.config}", f"--run-dir={files.run}", "--resume=auto"]
    options += [f"--data={config.data.path}", f"--set=run.test={str(is_tested).lower()}"]
    options += [] if seed is None else [f"--seed={seed}"]
    return [*worker.command, "train", *options]
