"""Summarizes a sweep: its trials, the importance of keys, edges of the space, repetitions."""

import json
import math
import os
import re
import statistics
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.errors import CheckpointError
from ptblm.files import os_errors
from ptblm.json_files import read_json
from ptblm.reporting.compare import Spread
from ptblm.reporting.run_labels import short_names
from ptblm.reporting.sweep import Repetitions, SweepSummary, Trial
from ptblm.run.sweep.directory import SweepDirectory
from ptblm.run.sweep.repeats import best_trials
from ptblm.run.sweep.study import load_study
from ptblm.run.sweep.worker import ERROR
from ptblm.terminal import counted

_MIN_TRIALS = 4  # finished ones, for importances
_EDGE = 0.05  # part of a range that counts as its edge
_REPETITION = re.compile(r"trial-([0-9]{5,9})-seed-[0-9]{1,19}")
_STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}
_ORDER = ["finished", "pruned", "running", "diverged", "failed", "waiting"]


def summarize_sweep(directory: SweepDirectory, storage: str | None = None) -> SweepSummary:
    """Reads a sweep, whether it has ended or is in progress. Nothing is written.

    Args:
        directory: the sweep directory.
        storage: URL of the database with the trials; None for the journal in the directory.

    Raises:
        CheckpointError: if there is no sweep, or it cannot be read.
    """
    study = load_study(directory, storage)
    try:
        return _summary(directory, study)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"the trials cannot be read: {error}", where=str(directory.path)
        ) from error


def best_config(directory: SweepDirectory, storage: str | None = None) -> Config:
    """Returns the config of the best finished trial.

    Raises:
        CheckpointError: if there is no sweep, or no trial has finished.
        ConfigError: if the config cannot be read.
    """
    finished = best_trials(load_study(directory, storage))
    if not finished:
        raise CheckpointError("no trial of the sweep has finished", where=str(directory.path))
    return load_config(str(directory.trial(finished[0].number).config))


def _summary(directory: SweepDirectory, study: optuna.Study) -> SweepSummary:
    found = study.get_trials(deepcopy=False)
    started = [trial.datetime_start for trial in found if trial.datetime_start is not None]
    trials = [_trial(trial, min(started, default=None)) for trial in found]
    ranges = {
        key: distribution
        for trial in found
        for key, distribution in trial.distributions.items()
        if isinstance(distribution, FloatDistribution | IntDistribution)
    }
    best = best_trials(study)
    return SweepSummary(
        name=os.path.basename(os.path.abspath(directory.path)),
        trials=sorted(trials, key=lambda trial: _place(trial)),
        scales={key: (each.low, each.high, each.log) for key, each in ranges.items()},
        importances=_importances(study, best),
        edges=_edges(best[0]) if best else [],
        repetitions=_repetitions(directory),
    )


def _place(trial: Trial) -> tuple[int, float, int]:
    value = math.inf if trial.valid is None or math.isnan(trial.valid) else trial.valid
    return _ORDER.index(trial.state), value, trial.number


def _trial(trial: FrozenTrial, start: Any) -> Trial:
    state = _STATES.get(trial.state, "failed" if ERROR in trial.user_attrs else "diverged")
    begin = trial.datetime_start
    values = trial.params or trial.system_attrs.get("fixed_params", {})
    return Trial(
        number=trial.number,
        values={str(key): _decoded(value) for key, value in values.items()},
        valid=min(trial.intermediate_values.values(), default=None),
        epochs=max(trial.intermediate_values, default=0),
        state=state,
        note=str(trial.user_attrs.get(ERROR, "")),
        start=None if begin is None else (begin - start).total_seconds(),
    )


def _decoded(value: Any) -> Any:
    """Returns a choice as it is in the file of the sweep; see `encoded`."""
    if isinstance(value, str) and value[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def trial_line(trial: FrozenTrial) -> str:
    """Returns a line about a trial that has ended."""
    shown = _trial(trial, trial.datetime_start)
    valid = "" if shown.valid is None else f", valid perplexity {shown.valid:.2f}"
    values = zip(short_names(list(shown.values)), shown.values.values(), strict=True)
    texts = [
        f"{key}={f'{value:.4g}' if isinstance(value, float) else value}" for key, value in values
    ]
    return (
        f"trial {shown.number} {shown.state}: {counted(shown.epochs, 'epoch')}{valid}; "
        f"{', '.join(texts)}"
    )


def _importances(study: optuna.Study, finished: Sequence[FrozenTrial]) -> dict[str, float]:
    """Returns the importances by PED-ANOVA; none if the trials are too few or all are equal."""
    keys = {key for trial in finished for key in trial.params}
    values = {trial.value for trial in finished}
    if len(finished) < _MIN_TRIALS or len(values) < 2 or len(keys) < 2:
        return {}
    try:
        with warnings.catch_warnings():  # about keys with few trials
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(study))
    except Exception:  # a key with one value, or a damaged journal
        return {}


def _edges(best: FrozenTrial) -> list[str]:
    """Returns a note for each value of the best trial at an edge of its range."""
    notes = []
    for key, distribution in best.distributions.items():
        if not isinstance(distribution, FloatDistribution | IntDistribution):
            continue
        low, high, value = distribution.low, distribution.high, best.params[key]
        scale = math.log if distribution.log else float
        place = (scale(value) - scale(low)) / ((scale(high) - scale(low)) or 1)
        if not _EDGE < place < 1 - _EDGE:
            notes.append(
                f"{key} of the best trial, {value:.4g}, is at an edge of {low:g} to {high:g}: "
                "a wider range may contain better values"
            )
    return notes


def _repetitions(directory: SweepDirectory) -> list[Repetitions]:
    """Reads the results of the repetitions."""
    with os_errors(CheckpointError, where=directory.path):
        names = os.listdir(directory.path)
    groups: dict[int, list[dict[str, Any]]] = {}
    for name in sorted(names):
        if match := _REPETITION.fullmatch(name):
            result = read_json(directory.path / name / "result.json")
            groups.setdefault(int(match[1]), []).extend([result] if result else [])
    repetitions = []
    for number, results in groups.items():
        valid = _spread([result.get("best_valid_perplexity") for result in results])
        test = _spread([result.get("best_test_perplexity") for result in results])
        if valid is not None:
            repetitions.append(Repetitions(number, len(results), valid, test))
    return sorted(repetitions, key=lambda each: each.valid.mean)


def _spread(values: Sequence[Any]) -> Spread | None:
    known = [float(value) for value in values if type(value) in (int, float)]
    if not known or len(known) < len(values):
        return None
    sd = statistics.stdev(known) if len(known) > 1 else None
    return Spread(statistics.fmean(known), sd, min(known), max(known))
