"""Brings a freshly assembled run to where a checkpoint was taken, or says why it can't."""

import contextlib
import sys
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, current_versions, load_checkpoint
from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.config.differences import config_differences
from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.errors import CheckpointError, ConfigError, DamagedCheckpointError, DataError
from ptblm.files import write_text
from ptblm.model.build import is_custom_cell
from ptblm.model.cells.custom import source_hash
from ptblm.run.directory import RunDirectory
from ptblm.run.setup import RunComponents

# Keys that leave what was done as it was. All others would make the run another run.
FREE_KEYS = {
    "data.path",  # the text itself is compared by its hash
    "training.epochs",
    "run.device",
    "run.precision",
    "run.deterministic",
    "run.fused",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.log_every",
    "run.tensorboard",
}


# After a divergence these too: going on as before would only diverge again.
KEYS_FREE_AFTER_DIVERGENCE = {
    "training.learning_rate",
    "training.schedule.final_learning_rate",
    "training.max_grad_norm",
}


def newest_good_checkpoint(directory: RunDirectory) -> tuple[Path, Checkpoint]:
    """The last checkpoint, or if that is damaged the newest good one, with a warning.

    Raises:
        CheckpointError: the last one's, if no other is good, or if it is only not usable here: of
            a newer format, say, or not readable just now.
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
    print(
        f"warning: {directory.last} can't be used ({reason.what}); "
        f"going on from {path}, step {step:,}",
        file=sys.stderr,
    )
    return path, checkpoint


def refuse_changes(before: Config, after: Config, *, diverged: bool) -> None:
    """Refuses a config under which the run would not go on as it began.

    Raises:
        ConfigError: with every difference that may not be.
    """
    free = FREE_KEYS | (KEYS_FREE_AFTER_DIVERGENCE if diverged else set())
    if before.training.schedule.type == "cosine":
        free -= {"training.epochs"}
    reasons = {"training.epochs": " (all rates of a cosine schedule depend on training.epochs)"}
    problems = [
        f"{key}: {old!r} in the run, {new!r} now; a run can't change it on the way"
        + reasons.get(key, "")
        for key, old, new in config_differences(before, after)
        if key not in free
    ]
    if problems:
        raise ConfigError(
            "\n".join(problems),
            hint=f"only {', '.join(sorted(free))} may change; or a new run",
        )


def restore(components: RunComponents, checkpoint: Checkpoint, path: Path) -> None:
    """Loads weights, position and state into the run.

    Raises:
        DataError: if the corpus is not the one that the run began with.
        CheckpointError: if the checkpoint does not fit its own config.
    """
    hashes = checkpoint.corpus.get("sha256", {})
    for split, text in components.corpus.splits.items():
        if hashes.get(split) != text.sha256:
            raise DataError(
                f"the {split} split is not the text that the run began with",
                where=components.config.data.path,
                hint="put the first text back, or start a new run",
            )
    try:
        components.trainer.load_state_dict(checkpoint.trainer_state())
        position = components.trainer.train_state
    except (StructureMismatchError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise CheckpointError(
            f"the checkpoint does not fit the run: {first}", where=str(path)
        ) from None
    epochs = components.config.training.epochs
    if epochs < position.epoch or (epochs == position.epoch and position.batch > 0):
        raise ConfigError(
            f"training.epochs: {epochs} now, but the run is in epoch {position.epoch + 1} already",
            hint=f"training.epochs of {position.epoch + 1} or more",
        )


def run_versions(components: RunComponents) -> dict[str, str]:
    """All on which a run's figures may depend beside its config, to the last bit."""
    versions = {**current_versions(), "device": components.device}
    versions["products"] = components.products
    versions["path"] = components.trainer.model.recurrent.kernel
    if is_custom_cell(components.config.model):
        versions["cell"] = source_hash(components.config.model.cell.type)[:12]
    return versions


def reproducibility_warnings(checkpoint: Checkpoint, components: RunComponents) -> list[str]:
    """Why the run can't be promised to end as it would have without a stop, if it can't."""
    now = run_versions(components)
    if "products" not in checkpoint.versions:
        return ["it was begun by a ptblm whose steps had other last digits, and other masks"]
    names = {"ptblm": "ptblm", "torch": "torch", "device": "the device"}
    names["products"] = "who computes fp32 products"
    names["path"] = "how a step is made"
    names["cell"] = f"the file of {components.config.model.cell.type}"
    before, after = checkpoint.parsed_config().run, components.config.run
    changed = [
        f"run.{key} was {getattr(before, key)!r} and is {getattr(after, key)!r}"
        for key in ("precision", "deterministic", "fused")
        if getattr(before, key) != getattr(after, key)
    ]
    return changed + [
        f"{name} was {checkpoint.versions[key]!r} and is {now[key]!r}"
        for key, name in names.items()
        if key in now and checkpoint.versions.get(key, now[key]) != now[key]
    ]


def rewrite_config(path: Path, before: Config, config: Config) -> None:
    """Has a run's config.yaml say what the run goes on with.

    It is written for people, and never read as the config: an edit of it changes nothing, which
    is said. One that says the right thing, in whatever words, is left alone.

    Args:
        path: of the file.
        before: the run's config so far.
        config: the one that it goes on with.

    Raises:
        OSError: if it can't be written.
    """
    found: Config | None = None
    with contextlib.suppress(ConfigError):
        found = load_config(str(path))
    if found == config:
        return
    if path.exists() and path.read_bytes() != config_document(before).encode():
        values = [] if found is None else config_differences(before, found)
        said = ", ".join(f"{key}={value}" for key, _, value in values) or "other words"
        print(
            f"note: {path} had {said}; it is no input, and was written anew "
            "(--set KEY=VALUE changes a run)",
            file=sys.stderr,
        )
    write_text(path, config_document(config))
