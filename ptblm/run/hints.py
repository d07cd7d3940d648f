"""Commands that messages suggest: complete, quoted for a shell, and valid when they are printed."""

from collections.abc import Sequence
from pathlib import Path

from ptblm.config.optimizers import USUAL_RATES
from ptblm.config.schema import Config
from ptblm.json_files import read_json
from ptblm.paths import shell_join
from ptblm.run.directory import RunDirectory

_USUAL_GRAD_NORM = 5.0
_LARGE_GRAD_NORM = 100.0


def resume_command(path: Path, changes: Sequence[str] = ()) -> str:
    """Returns the command that resumes a run, with overrides such as "training.epochs=20"."""
    return shell_join(["ptblm", "train", "--resume", str(path), *_set(changes)])


def init_command(checkpoint: Path) -> str:
    """Returns the command that starts a new run with the weights of a checkpoint."""
    return shell_join(["ptblm", "train", "--init", str(checkpoint)])


def restart_command(directory: RunDirectory, changes: Sequence[str] = ()) -> str:
    """Returns the command that deletes a run and starts it again.

    It is the command line of the run, which environment.json records, with overrides changed. For
    a run that was not started by a command line, it uses config.yaml of the run, and also if the
    command line names a cell: an option with a custom cell is an agreement to run its code, and the
    files of the run could come from a stranger.
    """
    command = read_json(directory.environment).get("command")
    words = [str(word) for word in command[1:]] if isinstance(command, list) else []
    if words[:1] != ["train"] or any("cell" in word for word in words):
        words = ["train", "--config", str(directory.config)]
    words = _without(words, {change.partition("=")[0] for change in changes})
    run_dir = ["--run-dir", str(directory.path), "--overwrite"]
    return shell_join(["ptblm", *words, *_set(changes), *run_dir])


def diverged_command(directory: RunDirectory, config: Config) -> str:
    """Returns the command that continues a diverged run, or starts it again without a checkpoint.

    Args:
        directory: the run directory.
        config: the config of the diverged run.
    """
    changes = _stabilizing_changes(config)
    if directory.last.is_file():
        return resume_command(directory.path, changes)
    return restart_command(directory, changes)


def _stabilizing_changes(config: Config) -> list[str]:
    """Returns overrides that make divergence less likely: above all, a lower learning rate."""
    training = config.training
    # A rate above the usual one is not just halved.
    rate = min(training.learning_rate / 2, USUAL_RATES[training.optimizer.type])
    changes = [f"training.learning_rate={rate:g}"]
    if training.schedule.options.get("final_learning_rate", 0.0) > rate:
        changes.append(f"training.schedule.final_learning_rate={rate / 10:g}")
    if training.max_grad_norm > _LARGE_GRAD_NORM:
        changes.append(f"training.max_grad_norm={_USUAL_GRAD_NORM:g}")
    return changes


def _set(changes: Sequence[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def _without(words: list[str], keys: set[str]) -> list[str]:
    """Returns a command line without the options of the run directory, and without some keys."""
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option not in ("--run-dir", "--resume", "--set"):
            kept += [] if word == "--overwrite" else [word]
            continue
        typed = [word]
        if not equals and rest:
            value = rest.pop(0)
            typed.append(value)
        if option == "--set" and value.partition("=")[0].strip() not in keys:
            kept += typed
    return kept
