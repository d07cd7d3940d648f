"""Repeats the best trials of a sweep with other seeds. Only these runs are tested."""

from collections.abc import Callable

from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from ptblm.config.loading import load_config
from ptblm.run.lock import is_locked, try_lock
from ptblm.run.sweep.child import DIVERGED, STOPPED, train_in_child
from ptblm.run.sweep.directory import TrialFiles
from ptblm.run.sweep.worker import Worker, train_command


def best_trials(study: Study) -> list[FrozenTrial]:
    """Returns the finished trials, the best one first."""
    finished = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return sorted(finished, key=lambda trial: (trial.value, trial.number))


def repeat_best(worker: Worker, on_run: Callable[[TrialFiles, str], None]) -> None:
    """Repeats the best trials, without the repetitions that other workers train.

    The seeds are those after the seed of the trial, which contributed to its choice.

    Args:
        worker: the worker, for which no trial is left.
        on_run: called with the files of each repetition that this worker has trained, and with how
            it ended: "finished", "diverged" or "stopped".

    Raises:
        Interrupted: after a stop signal. The run was saved.
        PtblmError: if a run failed.
    """
    settings = worker.sweep.settings.repeat_best
    if settings is None or worker.study.get_trials(states=[TrialState.RUNNING]):
        return
    for trial in best_trials(worker.study)[: settings.top]:
        first = load_config(str(worker.directory.trial(trial.number).config)).training.seed + 1
        for seed in range(first, first + settings.seeds):
            worker.check_stop()
            files = worker.directory.trial(trial.number, seed)
            if outcome := _repeat(worker, files, seed):
                on_run(files, outcome)


def _repeat(worker: Worker, files: TrialFiles, seed: int) -> str | None:
    """Trains and tests a repetition.

    Returns:
        How it ended; None if it had ended before, or another worker trains it.
    """
    if (files.run / "result.json").exists() or (files.run / "diverged.json").exists():
        return None
    lock = None
    try:
        lock = try_lock(files.lock)
        if lock is None or is_locked(files.run):
            return None
    except NotImplementedError:  # a file system without locks
        pass
    try:
        config = load_config(str(files.config))
        command = train_command(worker, files, config, is_tested=True, seed=seed)
        code = train_in_child(command, files, worker.stop, lambda _: False)
        if code == STOPPED:
            worker.check_stop()
        return {STOPPED: "stopped", DIVERGED: "diverged"}.get(code, "finished")
    finally:
        if lock is not None:
            lock.release()
