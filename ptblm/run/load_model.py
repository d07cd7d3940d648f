"""Loads the model of a checkpoint."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ptblm import consent
from ptblm.backend.allocator import keep_freed_memory
from ptblm.backend.device import SelectedDevice, select_device
from ptblm.backend.matmul import MatmulBackend, select_matmul_backend
from ptblm.backend.precision import allow_tf32
from ptblm.checkpoint.format import Checkpoint, load_checkpoint, verify_hint
from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.data import DataConfig
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.errors import CheckpointError, ConfigError, DataError, UsageError
from ptblm.model.build import build_model, is_custom_cell
from ptblm.model.language_model import LanguageModel
from ptblm.run.directory import find_checkpoint


@dataclass(frozen=True)
class LoadedModel:
    """A trained model, ready for evaluation.

    Attributes:
        path: the checkpoint file.
        model: the model in evaluation mode, on its device.
        tokenizer: the tokenizer, with the vocabulary of the training split.
        config: the config of the run.
        epochs: completed epochs of the run.
        steps: completed steps of the run.
        train_state: progress of the run, as plain values.
        device: the device of the model.
        matmul: the library that computes its matrix multiplications.
        corpus: name of the corpus of the run; "" if it is unknown, as for an imported model.
        corpus_sha256: SHA-256 of each split of the corpus; "" for a split that it does not have.
    """

    path: Path
    model: LanguageModel
    tokenizer: Tokenizer
    config: Config
    epochs: int
    steps: int
    train_state: dict[str, Any]
    device: SelectedDevice
    matmul: MatmulBackend
    corpus: str
    corpus_sha256: dict[str, str]


def load_model(path: Path, device_name: str = "auto") -> LoadedModel:
    """Loads the model of a checkpoint, with averaged weights if the run averages them.

    The model computes in fp32 with the libraries of the run to reproduce the results of the run.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        UsageError: if the device is not available.
    """
    selected = select_device(device_name)
    allow_tf32(False)
    path = find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    config = checkpoint.parsed_config()
    tokenizer = tokenizer_from_checkpoint(checkpoint, config.data, path)
    epochs, steps = checkpoint.trained()
    matmul = select_matmul_backend(selected.device, previous_matmul(checkpoint))
    if config.run.fused:
        keep_freed_memory()
    model = model_from_checkpoint(checkpoint, config.model, path, fused=config.run.fused)
    return LoadedModel(
        path,
        model.to(selected.device).eval(),
        tokenizer,
        config,
        epochs,
        steps,
        checkpoint.train_state,
        selected,
        matmul,
        checkpoint.corpus["name"],
        checkpoint.corpus["sha256"],
    )


def load_trusted_model(path: Path, device_name: str, cell: str | None) -> LoadedModel:
    """Loads the model of a checkpoint, whose custom cell the user may have named.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        cell: the custom cell of the checkpoint, which the caller agrees to run.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        UsageError: if the device is not available, or the checkpoint has another cell.
    """
    if cell is not None:
        consent.allow("cell", cell)
    loaded = load_model(path, device_name)
    if cell not in (None, loaded.config.model.cell.type):
        raise UsageError(f"--cell {cell}: the checkpoint has {loaded.config.model.cell.type}")
    return loaded


def previous_matmul(checkpoint: Checkpoint) -> MatmulBackend | None:
    """Returns the matmul backend of a run on a CPU; None for a run on another device."""
    if checkpoint.computing["device"] != "cpu":
        return None
    return "onednn" if checkpoint.computing["matmul"] == "onednn" else "default"


def model_from_checkpoint(
    checkpoint: Checkpoint, config: ModelConfig, path: Path, *, fused: bool = True
) -> LanguageModel:
    """Builds the model of a checkpoint on the CPU, with the weights to evaluate.

    The model is built on the meta device, where a large model takes no memory. Memory is used only
    for tensors that the file contains. A custom cell is built on the CPU, because its code may not
    support the meta device.

    Args:
        checkpoint: the checkpoint.
        config: the model config of the checkpoint.
        path: the checkpoint file, for messages.
        fused: whether to use fused kernels.

    Raises:
        CheckpointError: if the weights do not match the config or are not finite, or the user has
            not agreed to run the custom cell.
    """
    check_finite_tensors(checkpoint.evaluated_weights, checkpoint.weights_name, path)
    problem = "the checkpoint does not fit its own config"
    try:
        with nullcontext() if is_custom_cell(config) else torch.device("meta"):
            model = build_model(config, len(checkpoint.vocabulary["tokens"]), fused=fused)
        load_weights(model, checkpoint, assign=True)
    except ConfigError as error:
        raise custom_cell_error(error, path) from None
    except StructureMismatchError as error:
        raise CheckpointError(f"{problem}: {error}", where=str(path)) from None
    except (RuntimeError, OverflowError, MemoryError):  # sizes that torch cannot represent
        raise CheckpointError(f"{problem}: its sizes are impossible", where=str(path)) from None
    return model


def custom_cell_error(error: ConfigError, path: Path) -> CheckpointError:
    """Returns the error of a custom cell that a checkpoint names."""
    return CheckpointError(error.what, where=error.where or str(path), hint=error.hint)


def tokenizer_from_checkpoint(checkpoint: Checkpoint, config: DataConfig, path: Path) -> Tokenizer:
    """Returns the tokenizer of a checkpoint.

    Args:
        checkpoint: the checkpoint.
        config: the data config of the checkpoint.
        path: the checkpoint file, for messages.

    Raises:
        CheckpointError: if its vocabulary is incomplete, or that of another tokenizer.
    """
    try:
        tokenizer = make_tokenizer(config.tokenizer, checkpoint.parsed_vocabulary())
    except DataError as error:
        raise CheckpointError(error.what, where=str(path)) from None
    for token in tokenizer.vocabulary.tokens:
        if not tokenizer.is_token(token) and token not in tokenizer.special_ids:
            what = f"the vocabulary contains {token!r:.60}, which is not a {tokenizer.unit}"
            raise CheckpointError(what, where=str(path))
    return tokenizer


def check_finite_tensors(tensors: Mapping[str, Tensor], group: str, path: Path) -> None:
    """Checks that the values of a checkpoint are finite.

    Args:
        tensors: tensors by name.
        group: name of the tensors in the file, such as "model", for messages.
        path: the checkpoint file, for messages.

    Raises:
        CheckpointError: if a value is NaN or infinite.
    """
    for name, tensor in tensors.items():
        is_8_bit = tensor.is_floating_point() and tensor.itemsize == 1  # lacks isfinite
        if not bool((tensor.half() if is_8_bit else tensor).isfinite().all()):
            raise CheckpointError(
                f"{group}.{name} contains values that are not finite",
                where=str(path),
                hint=verify_hint(path),
            )


def load_weights(model: LanguageModel, checkpoint: Checkpoint, *, assign: bool = False) -> None:
    """Loads the weights of a checkpoint, or their average once it exists, into a model.

    Args:
        model: the model.
        checkpoint: the checkpoint.
        assign: whether the tensors of the checkpoint replace those of the model.

    Raises:
        StructureMismatchError: if the weights do not match the model.
    """
    weights = checkpoint.evaluated_weights
    check_structure(dict(model.state_dict()), weights, checkpoint.weights_name)
    # A copy, because torch adds a key to the dict.
    model.load_state_dict(dict(weights), assign=assign)
