"""Checkpoints: self-contained, written safely, verified in full on every load.

A checkpoint is one torch zip of tensors, numbers, strings, lists and dicts, so that
`weights_only` loading can refuse everything else: a stranger's checkpoint runs no code.
"""

import copy
import platform
import reprlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ptblm import __version__
from ptblm.checkpoint.inspection import SuspectError, inspect_checkpoint
from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.loading import validate
from ptblm.config.schema import Config
from ptblm.config.yaml_document import YamlDocument
from ptblm.corpus.splits import SPLITS
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError, ConfigError, DamagedCheckpointError
from ptblm.files import replacing

FORMAT = 2

_TRAINER_PARTS = {"model", "optimizer", "loss_scaler", "hidden_state", "train_state"}


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on, and all that evaluation needs.

    Attributes:
        config: the run's whole config, as plain data.
        vocabulary: the words in the order of their ids.
        corpus: its name, and the sha256 of each split's bytes.
        trainer: `Trainer.state_dict()`.
        metrics_offset: bytes of metrics.jsonl that were written before this checkpoint.
        versions: of ptblm, torch and Python, and what the run computes on.
        format: of the file.
    """

    config: dict[str, Any]
    vocabulary: list[str]
    corpus: dict[str, Any]
    trainer: dict[str, Any]
    metrics_offset: int
    versions: dict[str, str]
    format: int = FORMAT

    def parsed_config(self) -> Config:
        """The config, checked: every key that this version of ptblm knows, and no other.

        Raises:
            CheckpointError: if it is not usable as it is.
        """
        ours = Config().model_dump()
        missing = [
            f"{section}.{key}"
            for section, keys in ours.items()
            for key in keys
            if key not in self.config.get(section, {})
        ]
        if missing:
            raise CheckpointError(f"the checkpoint's config lacks {', '.join(sorted(missing))}")
        try:
            return validate(YamlDocument(copy.deepcopy(self.config), {}))
        except ConfigError as error:
            first = error.what.splitlines()[0]
            raise CheckpointError(f"the checkpoint's config is not usable: {first}") from None

    def trained(self) -> tuple[int, int]:
        """Epochs and steps that were done.

        Raises:
            CheckpointError: if the checkpoint does not say.
        """
        position = self.trainer["train_state"]
        if not isinstance(position, dict):
            raise CheckpointError("the checkpoint has no position")
        epochs, steps = position.get("epoch"), position.get("step")
        if not isinstance(epochs, int) or not isinstance(steps, int):
            raise CheckpointError("the checkpoint's position lacks epoch or step")
        return epochs, steps

    def parsed_vocabulary(self) -> Vocabulary:
        """The vocabulary."""
        return Vocabulary(self.vocabulary, [0] * len(self.vocabulary))


def current_versions() -> dict[str, str]:
    """The versions that a checkpoint and a run's environment record."""
    return {
        "ptblm": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint; whatever happens, `path` holds a whole one, the old or the new.

    Raises:
        OSError: if the disk refuses.
    """
    content = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    with replacing(path, check=_inspected) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # torch's writer hides the reason that the disk gave
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies a checkpoint, its tensors on the CPU.

    Raises:
        CheckpointError: saying what is wrong with it.
    """
    if not path.is_file():
        hint = "a run's directory, as in runs/small-ptb, or a checkpoint's file"
        raise DamagedCheckpointError("no such checkpoint", where=str(path), hint=hint)
    try:
        _inspected(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"can't be read: {error.strerror}", where=str(path)) from None
    except MemoryError:
        raise CheckpointError("too little memory to load it", where=str(path)) from None
    except Exception as error:  # a damaged file fails in torch in any way it likes
        first = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise DamagedCheckpointError(
            f"not a checkpoint that is safe to load: {first}", where=str(path), hint=_HINT
        ) from None
    return _checked(content, path)


_HINT = "another checkpoint of the run: `ptblm checkpoint verify RUN_DIR` says which are good"


def _inspected(path: Path) -> None:
    try:
        inspect_checkpoint(path)
    except SuspectError as error:
        raise DamagedCheckpointError(str(error), where=str(path), hint=_HINT) from None


def _checked(content: Any, path: Path) -> Checkpoint:
    if not isinstance(content, dict) or "format" not in content:
        raise CheckpointError("not a ptblm checkpoint", where=str(path))
    found = content["format"]
    if type(found) is not int or found != FORMAT:
        raise CheckpointError(
            f"its format is {reprlib.repr(found)}; this ptblm reads format {FORMAT}",
            where=str(path),
            hint=f"the ptblm that wrote it: {reprlib.repr(content.get('versions'))}",
        )
    problem = _problem(content)
    if problem is not None:
        raise DamagedCheckpointError(
            f"incomplete or damaged: {problem}", where=str(path), hint=_HINT
        )
    return Checkpoint(**content)


def _problem(content: dict[str, Any]) -> str | None:
    """What is wrong with a checkpoint's outer parts; the trainer looks at its own."""
    example: dict[str, Any] = {
        "config": {},
        "vocabulary": [],
        "corpus": {"name": "", "sha256": dict.fromkeys(SPLITS, "")},
        "trainer": {},
        "metrics_offset": 0,
        "versions": {},
        "format": FORMAT,
    }
    varying = {"config", "vocabulary", "trainer", "versions"}
    try:
        check_structure(example, content, varying=varying)
    except StructureMismatchError as error:
        return str(error)
    words = content["vocabulary"]
    if not words or not all(isinstance(word, str) for word in words):
        return "vocabulary: not a list of words"
    if len(set(words)) != len(words):
        return "vocabulary: a word is in it twice"
    if content["trainer"].keys() != _TRAINER_PARTS:
        return f"trainer: not {', '.join(sorted(_TRAINER_PARTS))}"
    if not all(isinstance(keys, dict) for keys in content["config"].values()):
        return "config: not sections of keys"
    versions = content["versions"]
    if not all(isinstance(version, str) for version in versions.values()):
        return "versions: not names of versions"
    if content["metrics_offset"] < 0:
        return "metrics_offset: below zero"
    return None
