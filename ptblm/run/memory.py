"""Turns "out of memory" into a message that says what would help."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from ptblm.config.schema import Config
from ptblm.errors import UsageError

# What torch's allocators say; only CUDA's has a class of its own.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation")


@contextmanager
def explained_out_of_memory(doing: str, hint: str) -> Iterator[None]:
    """Within this, running out of memory raises a UsageError of these words."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            sign in str(error) for sign in _SIGNS
        ):
            raise
        raise UsageError(f"out of memory {doing}", hint=hint) from None


def training_memory(config: Config) -> AbstractContextManager[None]:
    """Within this, running out of memory raises a UsageError that names smaller sizes."""
    model, training = config.model, config.training
    return explained_out_of_memory(
        f"with model.hidden_size {model.hidden_size:,}, training.batch_size "
        f"{training.batch_size:,} and training.num_steps {training.num_steps:,}",
        hint=f"training.batch_size {max(1, training.batch_size // 2):,} or "
        f"training.num_steps {max(1, training.num_steps // 2):,} halve what a step needs; "
        f"model.hidden_size {max(1, model.hidden_size // 2):,} makes weights a quarter",
    )
