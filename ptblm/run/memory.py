"""Converts out-of-memory errors to errors with a helpful hint."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from ptblm.config.schema import Config
from ptblm.errors import UsageError

# Parts of torch's out-of-memory messages. Only the CUDA allocator has a separate exception class.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation")


@contextmanager
def memory_errors(doing: str, hint: str) -> Iterator[None]:
    """Re-raises an out-of-memory error in the block as a UsageError.

    Args:
        doing: end of the message "out of memory ...", such as "during evaluation".
        hint: suggested fix.
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
    """Re-raises an out-of-memory error as a UsageError that suggests smaller sizes."""
    model, training = config.model, config.training
    return memory_errors(
        f"with model.hidden_size {model.hidden_size:,}, training.batch_size "
        f"{training.batch_size:,} and training.num_steps {training.num_steps:,}",
        hint=f"pass --set training.batch_size={max(1, training.batch_size // 2)} or --set "
        f"training.num_steps={max(1, training.num_steps // 2)} to halve the memory of a step, or "
        f"--set model.hidden_size={max(1, model.hidden_size // 2)} to quarter the weights",
    )
