"""The Optuna study of a sweep: its storage, and what draws and prunes its trials."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalStorage
from sqlalchemy.engine import make_url

from ptblm.config.sweep import HyperbandPruner, MedianPruner, Range
from ptblm.config.sweep_space import Draw, Sweep, encoded
from ptblm.errors import CheckpointError, UsageError
from ptblm.run.sweep.directory import (
    SweepDirectory,
    check_journal,
    claim_database_id,
    read_database_id,
)

JOURNAL_STUDY = "sweep"  # name of the only study in a journal

optuna.logging.set_verbosity(logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class _JournalLock(JournalFileOpenLock):
    """Optuna's lock. It removes the end of a line whose writer was killed or had no disk space."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def acquire(self) -> bool:
        acquired = super().acquire()
        try:
            with self._path.open("rb+") as file:
                end = file.seek(0, os.SEEK_END)
                start = max(0, end - 2**20)
                file.seek(start)
                tail = file.read()
                if tail and not tail.endswith(b"\n"):
                    file.truncate(start + tail.rfind(b"\n") + 1)
        except BaseException:
            with suppress(RuntimeError):
                self.release()
            raise
        return acquired


def create_study(
    directory: SweepDirectory, sweep: Sweep, url: str | None
) -> tuple[optuna.Study, BaseStorage]:
    """Creates the study of a sweep, or opens it if another worker has created it.

    All points of a grid are added as waiting trials when the study is created.

    Args:
        directory: the sweep directory, locked by this worker.
        sweep: the sweep.
        url: URL of a database; None for the journal in the directory.

    Raises:
        CheckpointError: if the name of the sweep in the database cannot be read.
        UsageError: if the storage cannot be used, or is not that of the trials in the directory.
        OSError: if the directory cannot be read or written to.
    """
    if sweep.settings.sampler == "qmc" and find_spec("scipy") is None:
        raise UsageError("the sampler qmc requires the scipy package", hint="pip install scipy")
    has_trials = directory.has_trials()
    name = JOURNAL_STUDY if url is None else claim_database_id(directory)
    with _any_error(directory, url, UsageError):
        file = directory.journal if url is None else _sqlite_file(url)
        is_lost = has_trials and file is not None and not file.exists()
        storage = None if is_lost else _open_storage(directory, url, is_new=True)
        names = [] if storage is None else optuna.get_all_study_names(storage)
    # A new study would start again at trial 0.
    if storage is None or (has_trials and name not in names):
        raise UsageError(
            f"{'the journal' if url is None else 'the database'} does not contain the trials of "
            "this directory",
            where=str(directory.path),
            hint="pass the same --storage as before, or none if there was none; or another --dir",
        )
    with _any_error(directory, url, UsageError):
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            load_if_exists=True,
            pruner=_pruner(sweep),
        )
        if sweep.settings.sampler == "grid":
            known = [trial.system_attrs.get("fixed_params") for trial in study.get_trials(False)]
            for point in sweep.grid():
                if (params := {key: encoded(value) for key, value in point.items()}) not in known:
                    study.enqueue_trial(params)
    return study, storage


def load_study(directory: SweepDirectory, url: str | None) -> optuna.Study:
    """Opens the study of a sweep to read it. Nothing is written.

    Raises:
        CheckpointError: if there is no sweep, or it cannot be read.
    """
    name = JOURNAL_STUDY if url is None else read_database_id(directory)
    if url is None:
        check_journal(directory)
    with _any_error(directory, url, CheckpointError):
        storage = _open_storage(directory, url, is_new=False)
        study = optuna.load_study(study_name=name, storage=storage)
        study.get_trials(deepcopy=False)
    return study


def _open_storage(directory: SweepDirectory, url: str | None, *, is_new: bool) -> BaseStorage:
    """Opens the storage of the trials.

    Args:
        directory: the sweep directory.
        url: URL of a database; None for the journal in the directory.
        is_new: whether the tables of the database are created if they are missing.
    """
    if url is not None:
        if not is_new and (file := _sqlite_file(url)) is not None:
            file.stat()  # an error if it is missing; SQLite would create it
        return optuna.storages.RDBStorage(url, skip_table_creation=not is_new)
    path = directory.journal
    return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))


def _sqlite_file(url: str) -> Path | None:
    """Returns the file of an SQLite database, which opening it creates; None for other URLs."""
    database = make_url(url)
    is_path = database.get_backend_name() == "sqlite" and "uri" not in database.query
    return Path(database.database or "") if is_path else None


@contextmanager
def storage_errors() -> Iterator[None]:
    """Re-raises a lost connection to a database as a UsageError."""
    try:
        yield
    except optuna.exceptions.StorageInternalError as error:
        hint = "continue the sweep when the database is available again"
        raise UsageError("the database cannot be used", where="--storage", hint=hint) from error


@contextmanager
def _any_error(
    directory: SweepDirectory, url: str | None, error_class: type[UsageError | CheckpointError]
) -> Iterator[None]:
    """Re-raises any exception in the block: a journal or a URL can contain anything."""
    try:
        yield
    except Exception as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        where = str(directory.journal) if url is None else "--storage"
        raise error_class(f"the trials cannot be read: {first_line}", where=where) from error


def make_sampler(sweep: Sweep, number: int) -> optuna.samplers.BaseSampler:
    """Returns the sampler of a trial. Its seed is the number of the trial.

    Workers thus draw different values, and a sweep with one worker is reproducible.
    """
    match sweep.settings.sampler:
        case "random" | "grid":  # the trials of a grid have their values already
            return optuna.samplers.RandomSampler(seed=number)
        case "qmc":
            return optuna.samplers.QMCSampler(seed=0, warn_independent_sampling=False)
        case "tpe":
            return optuna.samplers.TPESampler(seed=number)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    match sweep.settings.pruner:
        case MedianPruner(startup=startup, warmup_epochs=warmup):
            return optuna.pruners.MedianPruner(startup, n_warmup_steps=warmup + 1)
        case HyperbandPruner(min_epochs=first, reduction=factor):
            last = _max_epochs(sweep)
            return optuna.pruners.HyperbandPruner(min(first, last), last, factor)
        case _:
            return optuna.pruners.NopPruner()


def _max_epochs(sweep: Sweep) -> int:
    found = [each for each in sweep.parameters if each.key == "training.epochs"]
    return max(found[0].extremes) if found else sweep.config({}).training.epochs


def draw_values(trial: optuna.Trial, sweep: Sweep) -> Draw:
    """Draws the values of a trial. Values that were drawn before do not change."""
    draw: Draw = {}
    for parameter in sweep.parameters:
        key, values = parameter.key, parameter.values
        if not sweep.is_drawn(parameter, draw):
            continue
        if isinstance(values, list):
            choices = [encoded(choice) for choice in values]
            draw[key] = values[choices.index(trial.suggest_categorical(key, choices))]
        elif parameter.is_integer:
            draw[key] = _suggest_integer(trial, key, values)
        else:
            draw[key] = trial.suggest_float(
                key, values.low, values.high, step=values.step, log=values.log
            )
    return draw


def _suggest_integer(trial: optuna.Trial, key: str, values: Range) -> int:
    low, high, step = int(values.low), int(values.high), int(values.step or 1)
    return trial.suggest_int(key, low, high, step=step, log=values.log)
