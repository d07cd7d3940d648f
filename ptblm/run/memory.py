"""Turns out-of-memory errors into messages that say what would help."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from ptblm.config.schema import Config
from ptblm.errors import UsageError

# Parts of the messages of torch's allocators; only CUDA's allocator has its own exception class.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation")


@contextmanager
def memory_errors(doing: str, hint: str) -> Iterator[None]:
    """Raises an out-of-memory error in the block as a UsageError.

    Args:
        doing: what needed the memory, as in "out of memory {doing}".
        hint: what to do.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            sign in str(error) for sign in _SIGNS
        ):
            raise
        raise UsageError(f"out of memory {doing}", hint=hint) from None


def training_memory_errors(config: Config) -> AbstractContextManager[None]:
    """Raises an out-of-memory error of a run as a UsageError that suggests smaller sizes."""
    model, training = config.model, config.training
    return memory_errors(
        f"with model.hidden_size {model.hidden_size:,}, training.batch_size "
        f"{training.batch_size:,} and training.num_steps {training.num_steps:,}",
        hint=f"set training.batch_size={max(1, training.batch_size // 2)} or "
        f"training.num_steps={max(1, training.num_steps // 2)} to halve the memory of a step, or "
        f"model.hidden_size={max(1, model.hidden_size // 2)} to quarter the weights",
    )
