"""Runs a worker of a sweep whose trials are those of fake_train.py.

python -m tests.run.sweep_worker SPACE.yaml DIR
"""

import sys
from collections.abc import Callable
from pathlib import Path

from optuna import Study
from optuna.trial import FrozenTrial

from ptblm.config.sweep_loading import load_sweep
from ptblm.errors import PtblmError
from ptblm.run.sweep.directory import SweepDirectory, TrialFiles
from ptblm.run.sweep.run import run_worker

FAKE = [sys.executable, "-S", str(Path(__file__).with_name("fake_train.py"))]


def run(
    space: Path,
    directory: Path,
    trials: int | None = None,
    storage: str | None = None,
    on_repetition: Callable[[TrialFiles, str], None] = lambda *_: None,
) -> Study:
    """Runs a worker in this process, and returns its study."""
    ended: list[FrozenTrial] = []
    worker = run_worker(
        load_sweep(space),
        SweepDirectory(directory),
        trials=trials,
        storage=storage,
        command=FAKE,
        restart=["ptblm", "sweep", "run"],
        on_stop=lambda: None,
        on_trial=ended.append,
        on_repetition=on_repetition,
    )
    assert all(trial.state.is_finished() for trial in ended)
    return worker.study


if __name__ == "__main__":
    try:
        run(Path(sys.argv[1]), Path(sys.argv[2]))
    except PtblmError as error:
        print(error)
        sys.exit(error.exit_code)
