"""Short labels of runs that are shown together: what differs in their configs, or their names."""

import json
from collections.abc import Sequence

from ptblm.config.differences import config_differences, config_value
from ptblm.reporting.history import RunHistory
from ptblm.terminal import escape

_MAX_KEYS = 3
_MAX_LENGTH = 40


def run_labels(runs: Sequence[RunHistory]) -> list[str]:
    """Returns a label for each run, of at most 40 printable characters.

    The labels are the config keys that differ, as in "seed=1", if these are few and differ for each
    run; otherwise the names of the run directories. Keys of the section `run` do not count, because
    they do not change the model.
    """
    found = {
        key: None
        for other in runs[1:]
        for key, _, _ in config_differences(runs[0].config, other.config)
        if not key.startswith("run.")
    }
    candidates = [
        [_label_of_keys(run, list(found)) for run in runs if 0 < len(found) <= _MAX_KEYS],
        [run.name for run in runs],
        [f"{run.path.parent.name}/{run.name}" for run in runs],
    ]
    for labels in candidates:
        shortened = [_shortened(label) for label in labels]
        if len(set(shortened)) == len(runs):
            return shortened
    return [f"{number}: {_shortened(run.name)}" for number, run in enumerate(runs, 1)]


def short_names(keys: Sequence[str]) -> list[str]:
    """Returns the last part of each key, or the whole key if that is ambiguous."""
    last_parts = [key.rpartition(".")[2] for key in keys]
    return [
        part if last_parts.count(part) == 1 else key
        for key, part in zip(keys, last_parts, strict=True)
    ]


def _label_of_keys(run: RunHistory, keys: Sequence[str]) -> str:
    """Returns text such as "cell=gru, seed=1"; a key whose last part is ambiguous is complete."""
    names = short_names(keys)
    values = [config_value(run.config, key) for key in keys]
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return ", ".join(f"{name}={text}" for name, text in zip(names, texts, strict=True))


def _shortened(label: str) -> str:
    """Returns the start and the end of a label, with control characters escaped."""
    label = escape(label)
    half = _MAX_LENGTH // 2
    return label if len(label) <= _MAX_LENGTH else f"{label[: half - 1]}…{label[-half:]}"
