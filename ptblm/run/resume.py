"""Resumes a run: selects a checkpoint, checks changed keys and restores the state."""

import contextlib
import io
import logging
import os
from dataclasses import replace
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.config.differences import config_differences
from ptblm.config.loading import load_config
from ptblm.config.schedules import PROGRESS_SCHEDULES
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.config.yaml_document import MAX_CONFIG_BYTES
from ptblm.errors import CheckpointError, ConfigError, DamagedCheckpointError, DataError
from ptblm.files import open_regular, os_errors, write_text
from ptblm.paths import RUN_HINT
from ptblm.run.directory import RUNS, RunDirectory
from ptblm.run.hints import diverged_command, init_command, restart_command, resume_command
from ptblm.run.setup import RunComponents
from ptblm.run.verify import check_finite_state

logger = logging.getLogger(__name__)

# Keys outside `run` that a resumed run may change.
_FREE_KEYS = {
    "data.path",  # the text is compared by its hash
    "training.epochs",
    "training.early_stopping.patience",
}

# Keys that may also change after a divergence, because the same values would diverge again.
_FREE_AFTER_DIVERGENCE = {
    "training.learning_rate",
    "training.schedule.final_learning_rate",
    "training.max_grad_norm",
}


def find_run(path: Path) -> Path:
    """Returns the run directory to resume, given the directory or its last checkpoint.

    Raises:
        CheckpointError: if there is no run or no checkpoint, or the path is that of a checkpoint
            other than the last.
    """
    with os_errors(CheckpointError, fallback=path, hint=RUN_HINT):
        return _find_run(path)


def _find_run(path: Path) -> Path:
    if path.is_dir():
        if path == RunDirectory(path.parent).checkpoints:
            path = path.parent
        if not RunDirectory(path).all_checkpoints():
            raise no_checkpoint(RunDirectory(path))
        return path
    path = Path(os.path.normpath(path))
    runs = [parent for parent in path.parents[:2] if RunDirectory(parent).all_checkpoints()]
    if runs:
        run = runs[0]
        if path == RunDirectory(run).last:
            return run
        hint = f"resume the run from its last checkpoint: {resume_command(run)}"
        if not path.exists():
            raise CheckpointError("no such file", where=os.path.abspath(path), hint=hint)
        if path.suffix != ".safetensors":
            raise CheckpointError("not a run directory but a file", where=str(path), hint=hint)
        raise CheckpointError(
            "a run resumes from its last checkpoint, and this is another one",
            where=str(path),
            hint=f"{hint}; or start a new run from this one: {init_command(path)}",
        )
    if path.suffix == ".safetensors" and path.is_file():
        raise CheckpointError(
            "a checkpoint outside of a run directory cannot be resumed",
            where=str(path),
            hint=f"start a new run from it: {init_command(path)}",
        )
    what = "not a run directory but a file" if path.exists() else "no such run directory"
    similar = RUNS / path.name
    hint = resume_command(similar) if similar.is_dir() else RUN_HINT
    raise CheckpointError(what, where=os.path.abspath(path), hint=hint)


def no_checkpoint(directory: RunDirectory) -> CheckpointError:
    """Returns the error of a run that cannot be resumed, with the command that starts it again."""
    where = os.path.abspath(directory.path)
    if not directory.environment.is_file():
        return CheckpointError("no checkpoint to resume from", where=where, hint=RUN_HINT)
    what = "the run has no checkpoint to resume from"
    command = restart_command(directory)
    if directory.diverged.is_file():
        what = "the run diverged before its first checkpoint"
        with contextlib.suppress(ConfigError):
            command = diverged_command(directory, load_config(str(directory.config)))
    elif has_results(directory):
        what = "the run has results but no checkpoint to resume from"
    return CheckpointError(what, where=where, hint=f"delete it and start again: {command}")


def has_results(directory: RunDirectory) -> bool:
    """Returns whether a run has results. One killed before its first checkpoint has none."""
    if directory.result.exists() or directory.diverged.exists():
        return True
    with contextlib.suppress(OSError), open_regular(directory.metrics) as file:
        lines = io.BufferedReader(file)
        # A limit, because a damaged file can be one line of any length.
        return any(b'"kind": "epoch"' in line for line in iter(lambda: lines.readline(2**16), b""))
    return False


def newest_usable_checkpoint(directory: RunDirectory) -> tuple[Path, Checkpoint]:
    """Returns the last checkpoint or, if it is damaged, the newest intact one with a warning.

    Raises:
        CheckpointError: if no checkpoint is usable, or if the last checkpoint is intact but cannot
            be loaded, for example because it has a newer format.
    """
    try:
        return directory.last, load_checkpoint(directory.last)
    except DamagedCheckpointError as error:
        reason = error
    newest: tuple[int, Path, Checkpoint] | None = None
    for path in directory.all_checkpoints():
        with contextlib.suppress(CheckpointError):
            checkpoint = load_checkpoint(path)
            step = checkpoint.trained()[1]
            if newest is None or step > newest[0]:
                newest = step, path, checkpoint
    if newest is None:
        raise reason
    step, path, checkpoint = newest
    logger.warning(
        f"{directory.last} cannot be used ({reason.what}); resuming from {path}, step {step:,}"
    )
    return path, checkpoint


def check_can_resume(checkpoint: Checkpoint, path: Path) -> None:
    """Checks that a checkpoint is one of a run, and not an imported model.

    Raises:
        CheckpointError: if the model was imported.
    """
    if checkpoint.imported_from is not None:
        text = "" if checkpoint.corpus["name"] else " --data TEXT"
        raise CheckpointError(
            "an imported model cannot be resumed, because its file contains neither the state of "
            "the optimizer nor the position in the text",
            where=str(path),
            hint=f"start a new run from it: {init_command(path)}{text}",
        )


def check_changes(before: Config, after: Config, *, diverged: bool) -> None:
    """Checks that a resumed run changes only keys that may change.

    Raises:
        ConfigError: with every other key that differs.
    """
    free = _FREE_KEYS | (_FREE_AFTER_DIVERGENCE if diverged else set())
    reasons = {}
    if (schedule := before.training.schedule.type) in PROGRESS_SCHEDULES:
        free -= {"training.epochs"}
        reasons["training.epochs"] = f" (every rate of a {schedule} schedule depends on it)"
    problems = [
        f"{key}: is {new!r}, but the run has {old!r}; a resumed run cannot change it"
        + reasons.get(key, "")
        for key, old, new in config_differences(before, after)
        if key not in free and not key.startswith("run.")
    ]
    if problems:
        raise ConfigError(
            problems,
            hint=f"change only {', '.join(sorted(free))} or keys of run, or start a new run",
        )


def restore(components: RunComponents, checkpoint: Checkpoint, path: Path) -> None:
    """Loads the state of a checkpoint into the trainer.

    Raises:
        DataError: if the corpus differs from the original text of the run.
        CheckpointError: if the checkpoint does not match the run.
        ConfigError: if training.epochs is less than the number of epochs already started.
    """
    hashes = checkpoint.corpus["sha256"]
    for split, sha256 in components.corpus_hashes().items():
        if hashes[split] not in ("", sha256):  # a run without a test split may get one
            problem = "not the text that the run began with" if sha256 else "missing"
            raise DataError(
                f"the {split} split is {problem}",
                where=components.config.data.path,
                hint="restore the original text, or start a new run",
            )
    if list(components.corpus.vocabulary.tokens) != checkpoint.vocabulary["tokens"]:
        raise CheckpointError(
            "the vocabulary of the corpus differs from that of the checkpoint",
            where=str(path),
            hint="start a new run, or resume this run with the version of ptblm that wrote it",
        )
    check_finite_state(checkpoint, path)
    try:
        components.trainer.load_state_dict(checkpoint.trainer_state())
    except (StructureMismatchError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint does not match the run: {first}", where=str(path)
        ) from None
    state, epochs = components.trainer.train_state, components.config.training.epochs
    if epochs < state.epoch or (epochs == state.epoch and state.batch > 0):
        raise ConfigError(
            f"training.epochs: is {epochs}, but the run is already in epoch {state.epoch + 1}",
            hint=f"pass --set training.epochs={state.epoch + 1} or more",
        )


def rewrite_last(
    directory: RunDirectory, path: Path, checkpoint: Checkpoint, config: Config
) -> None:
    """Makes the last checkpoint of a resumed run the one that it resumes from, with its config.

    A damaged last checkpoint is renamed to last.safetensors.bad. If the config was changed, the
    change is saved at once, because the run may be killed before its next save.

    Args:
        directory: the run directory.
        path: the file of the checkpoint.
        checkpoint: the checkpoint.
        config: the config of the resumed run.

    Raises:
        OSError: if the checkpoint cannot be written.
    """
    if path != directory.last and directory.last.exists():
        os.replace(directory.last, directory.last.with_name(f"{directory.last.name}.bad"))
    if path != directory.last or checkpoint.parsed_config() != config:
        save_checkpoint(directory.last, replace(checkpoint, config=config.model_dump()))


def rewrite_config(path: Path, before: Config, config: Config) -> None:
    """Writes the config of a resumed run to its config.yaml.

    The file is only a record and is never used as the config. If it was edited, or describes the
    config of another checkpoint, a note explains that this has no effect. A file that already
    describes `config` is not rewritten.

    Args:
        path: the file.
        before: the config of the run so far.
        config: the config of the resumed run.

    Raises:
        OSError: if the file cannot be written.
    """
    found: Config | None = None
    with contextlib.suppress(ConfigError):
        found = load_config(str(path))
    if found == config:
        return
    if path.exists() and _content(path) != config_document(before).encode():
        values = [] if found is None else config_differences(before, found)
        edits = ", ".join(f"{key}={value}" for key, _, value in values) or "other text"
        logger.info(
            f"{path} differs from the config in the checkpoint ({edits}), which has no effect; "
            "it was rewritten. Pass --set KEY=VALUE to change a run"
        )
    write_text(path, config_document(config))


def _content(path: Path) -> bytes | None:
    """Returns the content of a regular file, as far as a config can be; None for anything else."""
    with contextlib.suppress(OSError), open_regular(path) as file:
        return file.read(MAX_CONFIG_BYTES + 1)
    return None
