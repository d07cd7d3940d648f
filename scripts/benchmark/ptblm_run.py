"""Wraps the parts of ptblm that the benchmark uses: configs, runs, steps and scores."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ptblm.backend.allocator import keep_freed_memory
from ptblm.backend.device import select_device
from ptblm.config.cells import LSTMConfig
from ptblm.config.dropout import DropoutConfig
from ptblm.config.loading import load_config, override_config
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.splits import corpus_path
from ptblm.errors import DataError, UsageError
from ptblm.evaluation.scorer import running_scores
from ptblm.evaluation.sequence_scores import score_sequences
from ptblm.evaluation.token_scores import Measures
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.records import StepDone

if TYPE_CHECKING:
    from benchmark.baseline import BaselineModel

__all__ = [
    "Measures",
    "RunComponents",
    "StepDone",
    "keep_freed_memory",
    "score_sequences",
    "setup_run",
]

LOG_EVERY = "run.log_every"


def make_config(name: str, text: str, device: str, precision: str) -> Config:
    """Returns a shipped config or YAML file with the settings of the benchmark."""
    settings = {"data.path": text, "run.device": device, "run.precision": precision}
    return load_config(name, [], settings)


def with_log_every(config: Config, steps: int) -> Config:
    """Returns the config with `run.log_every` set; on CUDA, only logged steps synchronize."""
    return override_config(config, [], {LOG_EVERY: steps})


def with_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """Returns the config with overrides such as `model.tie_embeddings=true`."""
    return override_config(config, list(overrides))


def without_dropout(config: Config) -> Config:
    """Returns the config without dropout, so that all implementations compute the same values."""
    return override_config(config, [], {"model.dropout": 0.0})


def device_name(config: Config) -> str:
    """Returns the device name in a config."""
    return config.run.device


def precision_of(config: Config) -> str:
    """Returns the precision of matrix multiplications in a config."""
    return config.run.precision


def pick_device(name: str) -> torch.device:
    """Returns the device that ptblm selects for a name."""
    return select_device(name).device


def read_corpus(config: Config) -> Corpus:
    """Returns the corpus of a config."""
    return load_corpus(config.data)


def non_baseline_options(config: Config) -> list[str]:
    """Returns the keys of a config that the PyTorch baseline does not support."""
    model, training = config.model, config.training
    same_model = ModelConfig(
        cell=LSTMConfig(forget_bias=model.cell.options.get("forget_bias", 0.0)),
        hidden_size=model.hidden_size,
        embedding_size=model.embedding_size,
        num_layers=model.num_layers,
        dropout=DropoutConfig.everywhere(model.dropout.output),
        initializer=model.initializer,
        init_scale=model.init_scale,
        softmax_bias=model.softmax_bias,
    )
    same_training = TrainingConfig(
        batch_size=training.batch_size,
        num_steps=training.num_steps,
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        schedule=training.schedule,
        max_grad_norm=training.max_grad_norm,
        seed=training.seed,
    )
    return [
        f"{section}.{key}"
        for section, found, same in (
            ("model", model, same_model),
            ("training", training, same_training),
        )
        for key in type(found).model_fields
        if getattr(found, key) != getattr(same, key)
    ]


def model_device(components: RunComponents) -> torch.device:
    """Returns the device of a run."""
    return next(components.trainer.model.parameters()).device


def training_steps(components: RunComponents) -> Iterator[StepDone]:
    """Yields the training steps of a run, as in `ptblm train`.

    Raises:
        UsageError: at the end of the first epoch.
    """
    for record in components.trainer.records():
        if not isinstance(record, StepDone):
            break
        yield record
    raise UsageError("the corpus is too short for this number of steps", hint="use fewer --steps")


def execution_path(components: RunComponents) -> str:
    """Describes how steps run: the kernel of the recurrent layers, and eager or CUDA graph."""
    trainer = components.trainer
    graph = "eager" if trainer.graphed_step is None else "one CUDA graph"
    return f"{trainer.model.recurrent.kernel}, {graph}"


def weight_and_gradient_bytes(components: RunComponents) -> tuple[int, int]:
    """Returns the memory of the weights and the gradients of a run."""
    parameters = list(components.trainer.optimizer.parameters.values())
    gradients = 0
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            gradient = gradient.coalesce()
            gradients += gradient.indices().nbytes + gradient.values().nbytes
        elif gradient is not None:
            gradients += gradient.nbytes
    return sum(parameter.nbytes for parameter in parameters), gradients


def training_text(corpus: Corpus, config: Config, device: torch.device) -> Tensor:
    """Returns the token streams of a training epoch, [steps * T + 1, B]."""
    training = config.training
    ids = corpus.splits["train"].ids
    batches = batchify(ids, training.batch_size, training.num_steps, "train")
    streams = np.concatenate([batches.inputs[:, :1], batches.targets], axis=1)
    return torch.from_numpy(streams.T.astype(np.int64, order="C")).to(device)


def steps_per_epoch(config: Config) -> int:
    """Returns the training steps of an epoch."""
    training, ids = config.training, load_corpus(config.data).splits["train"].ids
    return len(batchify(ids, training.batch_size, training.num_steps, "train"))


def test_ids(components: RunComponents) -> Tensor:
    """Returns the ids of the test split, [N], on the device of the run."""
    ids = components.corpus.splits["test"].ids
    return torch.from_numpy(ids.astype(np.int64)).to(model_device(components))


def score(components: RunComponents, ids: Tensor) -> float:
    """Scores ids, [N + 1], as a test split; returns the summed negative log-likelihood."""
    special_ids = components.corpus.tokenizer.special_ids
    trainer = components.trainer
    with trainer.precision.full_precision():
        *_, last = running_scores(trainer.model, ids, special_ids=special_ids)
    return last.nll


def with_penn_treebank(config: Config) -> Config | None:
    """Returns the config with the Penn Treebank; None if it is not in data/ptb."""
    try:
        corpus_path("ptb", "word")
    except DataError:
        return None
    return override_config(config, [], {"data.path": "ptb"})


@torch.no_grad()
def copy_weights(components: RunComponents, baseline: "BaselineModel") -> None:
    """Copies the weights of a ptblm model to the baseline.

    The LSTM of torch has two biases, and ptblm has one. The second bias contains the constant
    `forget_bias` and is not trained.
    """
    weights = components.trainer.model.state_dict()
    baseline.embedding.weight.copy_(weights["embedding.weight"])
    baseline.softmax.weight.copy_(weights["head.weight"])
    baseline.softmax.bias.copy_(weights["head.bias"])
    size = baseline.lstm.hidden_size
    for layer in range(baseline.lstm.num_layers):
        gates = f"recurrent.layers.{layer}.cell.gates"
        for name in ("weight_ih", "weight_hh"):
            getattr(baseline.lstm, f"{name}_l{layer}").copy_(weights[f"{gates}.{name}"])
        getattr(baseline.lstm, f"bias_ih_l{layer}").copy_(weights[f"{gates}.bias"])
        constant = getattr(baseline.lstm, f"bias_hh_l{layer}")
        constant.zero_()[size : 2 * size] = components.config.model.cell.options["forget_bias"]
        constant.requires_grad_(False)
