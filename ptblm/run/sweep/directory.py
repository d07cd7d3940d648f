"""Sweep directories: file paths, and the check that a directory belongs to a sweep.

sweep.yaml                the sweep, as it was started
journal.jsonl             the trials, written by Optuna
database-id               the name of the sweep in a database, which has the trials instead
lock                      locked while a worker chooses a trial
trial-00017.yaml          the config of a trial
trial-00017/              its run
trial-00017.log           the output of its run
trial-00017.lock          locked while a worker trains it
trial-00017-seed-1...     a repetition with another seed
"""

import contextlib
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ptblm.config.sweep_space import Sweep
from ptblm.config.yaml_document import parse_yaml, read_text
from ptblm.errors import CheckpointError, ConfigError, UsageError
from ptblm.files import has_one_name, open_regular, os_errors, write_text

MAX_JOURNAL_BYTES = 100_000_000
_OTHER_DIR = "pass another --dir"
_TRIAL_CONFIG = re.compile(r"trial-[0-9]{5,9}\.yaml")
_DATABASE_ID = re.compile(rb"[0-9a-f]{32}")


@dataclass(frozen=True)
class SweepDirectory:
    """The paths of the files of a sweep.

    Attributes:
        path: the directory.
    """

    path: Path

    @property
    def sweep(self) -> Path:
        """The sweep, as it was started."""
        return self.path / "sweep.yaml"

    @property
    def journal(self) -> Path:
        """The trials."""
        return self.path / "journal.jsonl"

    @property
    def database_id(self) -> Path:
        """The name of the sweep in a database."""
        return self.path / "database-id"

    @property
    def lock(self) -> Path:
        """Locked while a worker chooses a trial."""
        return self.path / "lock"

    def has_trials(self) -> bool:
        """Returns whether a trial was started.

        Raises:
            OSError: if the directory cannot be read.
        """
        return any(_TRIAL_CONFIG.fullmatch(name) for name in os.listdir(self.path))

    def trial(self, number: int, seed: int | None = None) -> "TrialFiles":
        """Returns the files of a trial, or of its repetition with another seed."""
        name = f"trial-{number:05}"
        config = self.path / f"{name}.yaml"
        return TrialFiles(self.path / (name if seed is None else f"{name}-seed-{seed}"), config)


@dataclass(frozen=True)
class TrialFiles:
    """The paths of the files of a trial.

    Attributes:
        run: the run directory.
        config: the config of the trial.
    """

    run: Path
    config: Path

    @property
    def log(self) -> Path:
        """The output of the run."""
        return self.run.with_name(f"{self.run.name}.log")

    @property
    def lock(self) -> Path:
        """Locked while a worker trains the run."""
        return self.run.with_name(f"{self.run.name}.lock")


def create_directory(directory: SweepDirectory) -> None:
    """Creates the directory of a sweep, unless it exists.

    Raises:
        UsageError: if it contains something other than a sweep, or a link that would be followed.
        OSError: if it cannot be created or read.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    for path in (directory.journal, directory.lock):
        if os.path.lexists(path) and not has_one_name(path.lstat()):
            raise UsageError("a link, or not a regular file", where=str(path), hint=_OTHER_DIR)
    names = set(os.listdir(directory.path))
    if names and not names & {directory.lock.name, directory.sweep.name}:
        raise _not_a_sweep(directory)


def claim_directory(directory: SweepDirectory, sweep: Sweep) -> None:
    """Writes the sweep to its directory, or checks that the directory belongs to this sweep.

    The number of trials and the repetitions may differ.

    Args:
        directory: the directory, locked by this worker.
        sweep: the sweep.

    Raises:
        UsageError: if the directory contains something other than a sweep.
        ConfigError: if it contains another sweep.
        OSError: if it cannot be written to.
    """
    if not os.path.lexists(directory.sweep):
        if set(os.listdir(directory.path)) - {directory.lock.name}:
            raise _not_a_sweep(directory)
        write_text(directory.sweep, sweep.text)
        return
    text = read_text(directory.sweep, "sweep", _OTHER_DIR)
    if _fixed_keys(text, str(directory.sweep)) != _fixed_keys(sweep.text, ""):
        raise ConfigError(
            "the directory contains another sweep; only trials and repeat_best may change",
            where=str(directory.sweep),
            hint=_OTHER_DIR,
        )


def claim_database_id(directory: SweepDirectory) -> str:
    """Returns the name of a sweep in a database. The first worker draws it.

    It is random, because other sweeps in the database can have a directory of the same name, and it
    does not change if the directory is moved.

    Args:
        directory: the directory, locked by this worker. The file is created exclusively in case the
            file system has no locks.

    Raises:
        CheckpointError: if the file contains something else.
        OSError: if it cannot be written.
    """
    with contextlib.suppress(FileExistsError), directory.database_id.open("xb", 0) as file:
        try:
            file.write(secrets.token_hex(16).encode())
        except OSError:
            directory.database_id.unlink()
            raise
    return read_database_id(directory)


def read_database_id(directory: SweepDirectory) -> str:
    """Returns the name of a sweep in a database.

    Raises:
        CheckpointError: if the directory has none.
    """
    path = directory.database_id
    hint = "pass the directory of a sweep with a database, or omit --storage"
    with os_errors(CheckpointError, where=path, hint=hint), open_regular(path) as file:
        content = file.read(100)
    if not _DATABASE_ID.fullmatch(content):
        raise CheckpointError("not the name of a sweep in a database", where=str(path), hint=hint)
    return content.decode()


def _not_a_sweep(directory: SweepDirectory) -> UsageError:
    what = "the directory contains something other than a sweep"
    return UsageError(what, where=str(directory.path), hint=_OTHER_DIR)


def _fixed_keys(text: str, name: str) -> object:
    data = parse_yaml(text, name).data
    free = ("trials", "repeat_best")
    return {k: v for k, v in data.items() if k not in free} if isinstance(data, dict) else data


def check_journal(directory: SweepDirectory) -> None:
    """Checks that a directory contains a sweep whose journal can be read.

    Raises:
        CheckpointError: if it does not.
    """
    hint = "pass the directory of a sweep, such as runs/sweep-speedrun"
    with os_errors(CheckpointError, where=directory.path, hint=hint):
        if not directory.path.is_dir():
            what = "not a directory" if os.path.lexists(directory.path) else "no such directory"
            raise CheckpointError(what, where=os.path.abspath(directory.path), hint=hint)
        if not os.path.lexists(directory.journal):
            if os.path.lexists(directory.database_id):
                hint = "pass --storage, because the trials of this sweep are in a database"
            raise CheckpointError(
                "no sweep in this directory: journal.jsonl is missing",
                where=os.path.abspath(directory.path),
                hint=hint,
            )
        with open_regular(directory.journal) as file:
            if os.fstat(file.fileno()).st_size > MAX_JOURNAL_BYTES:
                raise CheckpointError("too large for a journal", where=str(directory.journal))
