"""A trainer of a small model on random texts, and helpers to compare trainers."""

from typing import Any

import torch

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.backend.precision import Precision
from ptblm.backend.randomness import make_generator
from ptblm.config.model import ModelConfig
from ptblm.config.schema import VARIANT_KEYS
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.training.cuda_graph import Capture
from ptblm.training.records import Evaluating
from ptblm.training.trainer import Trainer

VOCABULARY = 13
CELLS = list(VARIANT_KEYS["model", "cell"].options)

# Dropout everywhere.
DROPOUT = {
    "input": 0.2,
    "between": 0.3,
    "output": 0.4,
    "locked": True,
    "embedding": 0.1,
    "recurrent_weights": 0.5,
    "recurrent_state": 0.3,
}

# A learning rate for each optimizer.
OPTIMIZERS = {
    "sgd": 1.0,
    "momentum": 0.1,
    "adam": 0.01,
    "adamw": 0.01,
    "nadam": 0.01,
    "muon": 0.02,
    "rmsprop": 0.01,
}


def make_text(tokens: int, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (tokens,), generator=generator, dtype=torch.int32).numpy()


def make_trainer(
    seed: int = 5,
    precision: str = "fp32",
    cell: dict[str, Any] | None = None,
    capture: Capture | None = None,
    fused: bool = True,
    log_every: int = 100,
    valid_tokens: int = 60,
    test_tokens: int | None = 40,
    world: World = ONE_PROCESS,
    **changes: Any,
) -> Trainer:
    settings: dict[str, Any] = {
        "batch_size": 3,
        "num_steps": 4,
        "epochs": 3,
        "schedule": {"type": "tutorial", "full_rate_epochs": 1},
        "max_grad_norm": 0.5,
        "seed": seed,
    }
    config = TrainingConfig(**{**settings, **changes})
    model_config = ModelConfig.model_validate(
        {"hidden_size": 6, "num_layers": 2, "dropout": 0.3, **(cell or {})}
    )
    model = build_model(model_config, VOCABULARY, fused=fused)
    model.initialize(Initializer("uniform", 0.4), make_generator(seed, "initial weights"))
    return Trainer(
        model,
        config,
        Precision(precision, torch.device("cpu")),
        train=batchify(make_text(100, 1), config.batch_size, config.num_steps, "train"),
        valid=make_text(valid_tokens, 2),
        test=None if test_tokens is None else make_text(test_tokens, 3),
        log_every=log_every,
        capture=capture,
        world=world,
    )


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_same_state(a: Trainer, b: Trainer) -> None:
    """Compares weights and optimizer state bit for bit."""
    assert_same(weights(a), weights(b))
    assert_same(a.optimizer.state_dict(), b.optimizer.state_dict())


def without_times(records: list[Any]) -> list[Any]:
    return [
        {k: v for k, v in vars(r).items() if "second" not in k}
        for r in records
        if not isinstance(r, Evaluating)
    ]
