"""Writes a sweep without training anything."""

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState, create_trial

from ptblm.run.sweep.study import JOURNAL_STUDY

SPACE = """config: test
set: {data.path: sample}
space:
  training.learning_rate: {low: 0.1, high: 1, log: true}
  model.cell: [lstm, gru]
trials: 8
"""
DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "training.learning_rate": FloatDistribution(0.1, 1, log=True),
    "model.cell": CategoricalDistribution(["lstm", "gru"]),
}


def write_sweep(directory: Path, note: str = "no such corpus") -> Path:
    """Writes a sweep of eight trials; trial 2 is the best one, near an edge of its range."""
    directory.mkdir()
    (directory / "sweep.yaml").write_text(SPACE)
    (directory / "lock").touch()
    storage = JournalStorage(JournalFileBackend(str(directory / "journal.jsonl")))
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, study_name=JOURNAL_STUDY)
    rates = [0.5, 0.2, 0.98, 0.3, 0.7, 0.1, 0.4, 0.6]
    for number, rate in enumerate(rates):
        cell = "gru" if number % 3 else "lstm"
        valid = 10 / rate + (1 if cell == "gru" else 0)
        state = {5: TrialState.PRUNED, 6: TrialState.FAIL, 7: TrialState.FAIL}.get(number)
        study.add_trial(
            create_trial(
                state=state or TrialState.COMPLETE,
                value=None if state else valid,
                params={"training.learning_rate": rate, "model.cell": cell},
                distributions=DISTRIBUTIONS,
                intermediate_values={1: 2 * valid, 2: valid},
                user_attrs={"error": note} if number == 7 else {},
            )
        )
        config = f"training: {{learning_rate: {rate}}}\nmodel: {{cell: {cell}}}\n"
        (directory / f"trial-{number:05}.yaml").write_text(config)
    for seed, (valid, test) in enumerate([(10.0, 11.0), (12.0, 12.0)], start=1):
        run = directory / f"trial-00002-seed-{seed}"
        run.mkdir()
        result = f'{{"best_valid_perplexity": {valid}, "best_test_perplexity": {test}}}'
        (run / "result.json").write_text(result)
    return directory
