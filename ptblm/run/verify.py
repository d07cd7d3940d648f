"""Verifies that a checkpoint can be used: for an evaluation, and to resume its run."""

import math
import re
from pathlib import Path

import torch
from torch import nn

from ptblm.backend.loss_scaler import LossScaler
from ptblm.checkpoint.format import Checkpoint
from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.errors import CheckpointError, ConfigError
from ptblm.model.build import assemble, is_custom_cell
from ptblm.model.cells.cell import Cell
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.run.load_model import (
    check_finite_tensors,
    model_from_checkpoint,
    tokenizer_from_checkpoint,
)
from ptblm.training.averaging import NAMES, check_averages
from ptblm.training.optimizer import SGD, make_optimizer
from ptblm.training.state import TrainState, check_progress


def verify(checkpoint: Checkpoint, path: Path) -> int:
    """Checks everything that does not need the training text. No code of a custom cell is run.

    Args:
        checkpoint: the checkpoint.
        path: its file, for messages.

    Returns:
        The number of trainable parameters; with a custom cell, the number of values in the model.

    Raises:
        CheckpointError: if the config, the vocabulary, the weights or the state of the run is not
            usable.
    """
    config = checkpoint.parsed_config()
    tokenizer_from_checkpoint(checkpoint, config.data, path)
    check_finite_state(checkpoint, path)
    try:
        _check_train_state(checkpoint, config)
        saved_averages = {name: getattr(checkpoint, name) for name in NAMES}
        counts, steps = checkpoint.train_state.get("averaged"), checkpoint.trained()[1]
        average = config.training.average
        check_averages(average, checkpoint.model, saved_averages, counts, steps)
        if is_custom_cell(config.model):
            return _check_around_custom_cell(checkpoint, config.model)
        model = model_from_checkpoint(checkpoint, config.model, path)
        _check_state_tensors(checkpoint, config, model)
    except StructureMismatchError as error:
        raise CheckpointError(f"not usable: {error}", where=str(path)) from None
    return model.parameter_count()


def check_finite_state(checkpoint: Checkpoint, path: Path) -> None:
    """Checks that the weights, all averages, the optimizer state and the hidden state are finite.

    Raises:
        CheckpointError: if a value is NaN or infinite.
    """
    hidden_state = {
        f"{layer}.{part}": tensor
        for layer, parts in enumerate(checkpoint.hidden_state)
        for part, tensor in enumerate(parts)
    }
    for name in ("model", *NAMES, "optimizer"):
        check_finite_tensors(getattr(checkpoint, name), name, path)
    check_finite_tensors(hidden_state, "hidden_state", path)


def _check_train_state(checkpoint: Checkpoint, config: Config) -> None:
    saved = dict(checkpoint.train_state)
    scaler = saved.pop("loss_scaler", None)
    saved.pop("averaged", None)
    if scaler != {}:  # a run in fp16
        check_structure(LossScaler().state_dict(), scaler, "train_state.loss_scaler")
        if not 0 < scaler["scale"] < math.inf or scaler["good_steps"] < 0:
            raise StructureMismatchError("train_state.loss_scaler: not a state of a run")
    check_progress(TrainState.from_dict(saved), config.training, None)


def _check_state_tensors(checkpoint: Checkpoint, config: Config, model: LanguageModel) -> None:
    """Checks the hidden state and the state of the optimizer against the model."""
    batch_size, layers = config.training.batch_size, model.recurrent.layers
    expected = [
        [torch.empty(batch_size, size, device="meta") for size in layer.cell.state_sizes]
        for layer in layers
    ]
    check_structure(expected, checkpoint.hidden_state, "hidden_state")
    parameters = {
        name: nn.Parameter(torch.empty_like(parameter, device="meta"))
        for name, parameter in model.trainable_parameters().items()
    }
    optimizer = make_optimizer(parameters, config.training)
    optimizer.load_state_dict(checkpoint.optimizer)
    # Only a run in fp16, which has a loss scaler, can contain steps without an update.
    has_updated = checkpoint.train_state["step"] > 0 and not checkpoint.train_state["loss_scaler"]
    if has_updated and not checkpoint.optimizer and not isinstance(optimizer, SGD):
        raise StructureMismatchError("optimizer: missing")


def _check_around_custom_cell(checkpoint: Checkpoint, config: ModelConfig) -> int:
    """Checks the number of layers, and the shapes of everything but the cells.

    Only the cell knows the sizes of its state; a learned initial state has those of the saved one.

    Returns:
        The number of values in the model.
    """
    vocab_size = len(checkpoint.vocabulary["tokens"])
    shapes = {name: list(tensor.shape) for name, tensor in checkpoint.model.items()}
    cells = {name for name in shapes if re.match(r"recurrent\.layers\.\d+\.cell\.", name)}
    layers = len({name.split(".")[2] for name in cells})
    for name, found in (("model", layers), ("hidden_state", len(checkpoint.hidden_state))):
        if found != config.num_layers:
            raise StructureMismatchError(
                f"{name}: {config.num_layers:,} layers expected, found {found}"
            )
    around = {name: shape for name, shape in shapes.items() if name not in cells}
    # The output size of the cell is that of the map which the output goes through first.
    names = ("projection", "head.latent_weight", "head.weight", "embedding.weight")
    first = next((around[name] for name in names if name in around), [])
    stand_ins = []
    for parts in checkpoint.hidden_state:
        cell = Cell(1, 1)  # stands for the custom cell, without parameters
        cell.output_size = first[-1] if first else 1
        cell.state_sizes = tuple(part.shape[-1] for part in parts if part.dim() > 0)
        stand_ins.append(cell)
    try:
        with torch.device("meta"):
            model = assemble(
                config,
                vocab_size,
                [RecurrentLayer(cell, config.initial_state) for cell in stand_ins],
            )
    except (ConfigError, RuntimeError) as error:  # a size that does not fit or is impossible
        raise StructureMismatchError(f"model: {error}") from None
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    if around != expected:
        raise StructureMismatchError(f"model: shapes {expected} expected, found {around}")
    return sum(tensor.numel() for tensor in checkpoint.model.values())
