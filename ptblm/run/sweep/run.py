"""Runs a worker of a sweep from its start to its end."""

from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial

from ptblm.config.sweep_space import Sweep
from ptblm.errors import UsageError
from ptblm.files import os_errors
from ptblm.run.signals import StopSignal
from ptblm.run.sweep.directory import SweepDirectory, TrialFiles, claim_directory, create_directory
from ptblm.run.sweep.repeats import repeat_best
from ptblm.run.sweep.study import create_study, storage_errors
from ptblm.run.sweep.worker import Worker, choosing, run_trials


def run_worker(
    sweep: Sweep,
    directory: SweepDirectory,
    *,
    trials: int | None,
    storage: str | None,
    command: Sequence[str],
    restart: Sequence[str],
    on_stop: Callable[[], None],
    on_trial: Callable[[FrozenTrial], None],
    on_repetition: Callable[[TrialFiles, str], None],
) -> Worker:
    """Trains trials until there are enough, then the repetitions of the best ones.

    Args:
        sweep: the sweep.
        directory: the sweep directory; it is created if necessary.
        trials: number of trials of all workers; None for that of the sweep.
        storage: URL of a database for the trials; None for the journal in the directory.
        command: the words that start `ptblm`.
        restart: the command line that starts this worker again.
        on_stop: called in the signal handler of the first stop signal.
        on_trial: called with each trial that this worker has ended.
        on_repetition: called with the files of each repetition that this worker has trained, and
            with how it ended; see `repeat_best`.

    Raises:
        Interrupted: after a stop signal. The run was saved and can be continued.
        PtblmError: if the directory or the storage cannot be used, three trials in a row ended with
            an error, or a repetition did.
    """
    with (
        StopSignal(on_stop) as stop,
        storage_errors(),
        os_errors(UsageError, "cannot use the sweep directory", fallback=directory.path),
    ):
        create_directory(directory)
        with choosing(directory):
            claim_directory(directory, sweep)
            study, opened = create_study(directory, sweep, storage)
        worker = Worker(sweep, directory, study, opened, command, restart, stop)
        run_trials(worker, trials or sweep.settings.trials, on_trial)
        repeat_best(worker, on_repetition)
        return worker
