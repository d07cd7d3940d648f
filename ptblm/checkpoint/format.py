"""The checkpoint format: one self-contained safetensors file, verified in full on every load.

Tensors are stored by name: `model.NAME`, `optimizer.NAME` and `hidden_state.LAYER.PART`; with
averaging also `average.NAME` and `short_average.NAME`. Everything else is one JSON document in the
metadata. Nothing is pickled, so an untrusted file cannot run code.
"""

import copy
import platform
import reprlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptblm import __version__
from ptblm.checkpoint.document import FORMAT, check_document
from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.checkpoint.tensor_file import (
    NotTensorFileError,
    ReadBackError,
    TensorFileError,
    read_tensor_file,
    write_tensor_file,
)
from ptblm.config.loading import validate
from ptblm.config.schema import Config
from ptblm.config.yaml_document import YamlDocument
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError, ConfigError, DamagedCheckpointError
from ptblm.files import described
from ptblm.paths import shell_join

# The fields of a checkpoint that are in the JSON document.
_DOCUMENT_FIELDS = [
    *("format", "config", "vocabulary", "corpus", "train_state", "metrics_offset"),
    *("imported_from", "versions", "computing"),
]
# The fields that are tensors by name.
_GROUPS = ("model", "average", "short_average", "optimizer")
_DISK_HINT = "check the disk, or use another --run-dir"
_PATH_HINT = "pass a run directory such as runs/small-ptb, or a checkpoint file"


@dataclass(frozen=True)
class Checkpoint:
    """Everything required to resume a run or evaluate its model.

    Attributes:
        config: the complete config of the run, as plain data.
        vocabulary: "tokens", in the order of their ids, and their "counts" in the training split;
            for byte-pair encoding also its "merges".
        corpus: "name" of the corpus, and "sha256" of the bytes of each split, which is "" if the
            corpus has no test split.
        model: the model's `state_dict` after the last step, from which training continues.
        optimizer: the optimizer's tensors by name.
        hidden_state: the hidden state of each layer.
        train_state: the remaining state of the trainer, as JSON values.
        metrics_offset: size of metrics.jsonl in bytes when the checkpoint was saved.
        versions: versions of ptblm, torch and Python.
        computing: hardware and software that affect rounding: device, threads, kernels.
        imported_from: where `ptblm import` found the model: name of the "file", its "sha256", and
            the "kind" of the model. None for a model that was trained by ptblm.
        average: a `state_dict` with averaged weights, which is evaluated instead of `model`; empty
            without averaging, or before it starts.
        short_average: the short mean of two-tailed averaging, likewise.
        format: version of the file format.
        path: the file that the checkpoint was loaded from, for messages.
    """

    config: dict[str, Any]
    vocabulary: dict[str, Any]
    corpus: dict[str, Any]
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    hidden_state: list[list[Tensor]]
    train_state: dict[str, Any]
    metrics_offset: int
    versions: dict[str, str]
    computing: dict[str, Any]
    imported_from: dict[str, str] | None = None
    average: dict[str, Tensor] = field(default_factory=dict)
    short_average: dict[str, Tensor] = field(default_factory=dict)
    format: int = FORMAT
    path: Path | None = field(default=None, compare=False)

    def parsed_config(self) -> Config:
        """Returns the validated config, which must have exactly the keys of this ptblm version.

        Raises:
            CheckpointError: if the config is not valid.
        """
        try:
            config = validate(YamlDocument(copy.deepcopy(self.config), {}))
        except ConfigError as error:
            first = error.problems[0]
            raise self._error(f"the checkpoint's config is not valid: {first}") from None
        # A default for a missing key could change the model or the run.
        missing = _keys(config.model_dump()) - _keys(self.config)
        if missing:
            raise self._error(f"the checkpoint's config lacks {', '.join(sorted(missing))}")
        return config

    def trained(self) -> tuple[int, int]:
        """Returns the numbers of completed epochs and steps.

        Raises:
            CheckpointError: if the train state does not contain both.
        """
        epochs, steps = self.train_state.get("epoch"), self.train_state.get("step")
        if type(epochs) is not int or type(steps) is not int:
            raise self._error("the checkpoint's train state lacks epoch or step")
        return epochs, steps

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(what, where=None if self.path is None else str(self.path))

    @property
    def evaluated_weights(self) -> dict[str, Tensor]:
        """The weights to evaluate: the average, once it exists, or those after the last step."""
        return self.average or self.model

    @property
    def weights_name(self) -> str:
        """The name of `evaluated_weights` in the file."""
        return "average" if self.average else "model"

    def trainer_state(self) -> dict[str, Any]:
        """Returns the fields in the format of `Trainer.load_state_dict`."""
        return {name: getattr(self, name) for name in (*_GROUPS, "hidden_state", "train_state")}

    def parsed_vocabulary(self) -> Vocabulary:
        """Returns the vocabulary as an object."""
        return Vocabulary(**self.vocabulary)


def current_versions() -> dict[str, str]:
    """Returns the versions that checkpoints and environment.json record."""
    return {
        "ptblm": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint atomically: `path` is either the old file or the complete new file.

    Raises:
        OSError: if the file cannot be written.
        CheckpointError: if the checkpoint contains a value that cannot be stored.
        DamagedCheckpointError: if the bytes read back differ from the written bytes.
    """
    document = {name: getattr(checkpoint, name) for name in _DOCUMENT_FIELDS}
    document["hidden_state"] = [len(layer) for layer in checkpoint.hidden_state]
    try:
        write_tensor_file(path, document, _named_tensors(checkpoint))
    except ReadBackError as error:
        raise DamagedCheckpointError(str(error), where=str(path), hint=_DISK_HINT) from None
    except (TensorFileError, TypeError, ValueError) as error:
        raise CheckpointError(f"cannot be saved: {error}", where=str(path)) from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies a checkpoint. Its tensors are on the CPU.

    Raises:
        DamagedCheckpointError: if the file is missing, damaged, or not a checkpoint. Another
            checkpoint of the run may be intact.
        CheckpointError: if the file cannot be read, does not fit into memory, or has an unknown
            format.
    """
    try:
        document, tensors = read_tensor_file(path)
    except FileNotFoundError:
        what = "no such checkpoint"
        raise DamagedCheckpointError(what, where=str(path), hint=_PATH_HINT) from None
    except OSError as error:
        raise described(error, CheckpointError, where=path, hint=_PATH_HINT) from None
    except MemoryError:
        raise CheckpointError(
            "not enough memory to load the checkpoint",
            where=str(path),
            hint="close other programs, or use a machine with more memory",
        ) from None
    except NotTensorFileError as error:
        raise DamagedCheckpointError(str(error), where=str(path), hint=_PATH_HINT) from None
    except TensorFileError as error:
        raise DamagedCheckpointError(str(error), where=str(path), hint=verify_hint(path)) from None
    found = document.get("format")
    if type(found) is not int or found != FORMAT:
        raise CheckpointError(
            f"its format is {reprlib.repr(found)}; this ptblm reads format {FORMAT}",
            where=str(path),
            hint=f"use the versions that saved it: {reprlib.repr(document.get('versions'))}",
        )
    try:
        return replace(_checkpoint(document, tensors), path=path)
    except StructureMismatchError as error:
        raise DamagedCheckpointError(
            f"incomplete or damaged: {error}", where=str(path), hint=verify_hint(path)
        ) from None


def verify_hint(path: Path) -> str:
    """Returns a hint with the command that finds an intact checkpoint of the run."""
    # The path can be the name of a file in the current directory.
    directory = path.parent if path.parent.name else path.absolute().parent
    run = directory.parent if directory.name == "checkpoints" else path
    verify = shell_join(["ptblm", "checkpoint", "verify", str(run)])
    return f"`{verify}` shows which checkpoints of a run are intact"


def _named_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    groups: dict[str, dict[str, Tensor]] = {
        **{group: getattr(checkpoint, group) for group in _GROUPS},
        "hidden_state": {
            f"{layer}.{part}": tensor
            for layer, parts in enumerate(checkpoint.hidden_state)
            for part, tensor in enumerate(parts)
        },
    }
    named = {}
    for group, tensors in groups.items():
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{group}.{name} is a {type(tensor).__name__}, not a tensor")
            named[f"{group}.{name}"] = tensor
    return named


def _checkpoint(document: dict[str, Any], tensors: dict[str, Tensor]) -> Checkpoint:
    """Builds a checkpoint from a file's content.

    Raises:
        StructureMismatchError: if a value is missing, unknown or of an unexpected type.
    """
    check_document(document)
    groups: dict[str, dict[str, Tensor]] = {name: {} for name in (*_GROUPS, "hidden_state")}
    for full_name, tensor in tensors.items():
        group, _, name = full_name.partition(".")
        if group not in groups:
            raise StructureMismatchError(f"{full_name}: unknown")
        groups[group][name] = tensor
    parts = groups.pop("hidden_state")
    sizes = document.pop("hidden_state")
    if sum(sizes) != len(parts):
        raise StructureMismatchError(f"hidden_state: {len(parts)} tensors, not {sum(sizes)}")
    try:
        hidden_state = [
            [parts[f"{layer}.{part}"] for part in range(size)] for layer, size in enumerate(sizes)
        ]
    except KeyError as error:
        raise StructureMismatchError(f"hidden_state.{error.args[0]}: missing") from None
    fields: dict[str, Any] = {**document, **groups}
    return Checkpoint(**fields, hidden_state=hidden_state)


def _keys(config: dict[str, Any], prefix: str = "") -> set[str]:
    """Returns the full names of all keys, such as "model.cell.forget_bias"."""
    keys = set()
    for name, value in config.items():
        keys |= _keys(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name}
    return keys
