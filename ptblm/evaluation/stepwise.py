"""Predicts one token at a time, for generation, compression and other sequential uses.

The result for one sequence does not depend on how a text is divided into chunks or batches, because
there are none. On one machine, with one number of threads and one version of torch, it is
reproducible bit for bit.

Shapes: B sequences, N tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import HiddenState


def next_log_probs(
    model: LanguageModel, tokens: Tensor, hidden_state: HiddenState
) -> tuple[Tensor, HiddenState]:
    """Returns the log-probability of every token as the next one, and the new hidden state.

    Args:
        model: the model, in evaluation mode.
        tokens: the id of the last token of each sequence, [B].
        hidden_state: the hidden state before these tokens.

    Returns:
        log p in nats, [B, V], in the precision of the model; and the hidden state after `tokens`.
    """
    with torch.inference_mode():
        features, hidden_state = model.features(tokens[:, None], hidden_state)  # [1, B, H]
        return model.head.log_probs(features[0]), hidden_state


def stepwise_log_probs(
    model: LanguageModel, tokens: Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """Yields the log-probabilities of the token after each token of a sequence, [V], in nats.

    Args:
        model: the model, in evaluation mode.
        tokens: the tokens, which are read one at a time.
    """
    device = next(model.parameters()).device
    hidden_state = model.initial_state(1)
    for token in tokens:
        log_probs, hidden_state = next_log_probs(
            model, torch.tensor([token], device=device), hidden_state
        )
        yield log_probs[0].cpu().double().numpy()
