"""One model that reads a text, without dropout and with samples of its dropout masks.

Shapes: T tokens of a chunk, H features, V vocabulary.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ptblm.backend.randomness import derive_seed
from ptblm.model.language_model import LanguageModel


class ModelReader:
    """Reads one text, chunk by chunk, and carries a hidden state for each sample.

    Masks that training keeps for a window of tokens are kept for a chunk.

    Args:
        model: the model, in evaluation mode.
        samples: number of dropout samples.
        seed: random seed of the masks, which depend on the seed, the sample and the chunk.
    """

    def __init__(self, model: LanguageModel, samples: int = 0, seed: int = 0) -> None:
        self.model = model
        self._hidden_state = model.initial_state(1)
        self._sampled_states = [self._hidden_state] * samples
        self._seed = seed
        self._generator = torch.Generator(next(model.parameters()).device)
        self._chunk = 0

    def features(self, inputs: Tensor) -> Tensor:
        """Returns the input of the head without dropout, [T, H], for ids [T]."""
        features, self._hidden_state = self.model.features(inputs[None], self._hidden_state)
        return features[:, 0]

    def sampled_log_probs(self, inputs: Tensor) -> Iterator[Tensor]:
        """Yields the log-probabilities of each dropout sample, [T, V], for ids [T]."""
        chunk, self._chunk = self._chunk, self._chunk + 1
        for sample, state in enumerate(self._sampled_states):
            seed = derive_seed(self._seed, f"Monte-Carlo sample {sample}", chunk)
            self._generator.manual_seed(seed)
            features, self._sampled_states[sample] = self.model.features(
                inputs[None], state, self._generator
            )
            yield self.model.head.log_probs(features, self._generator)[:, 0]


def has_dropout(model: LanguageModel) -> bool:
    """Returns whether dropout samples of a model differ."""
    device = next(model.parameters()).device
    # Dropout of whole words depends on the words, so there are many.
    ids = torch.arange(64, device=device) % model.vocab_size
    with torch.inference_mode():
        first, *others = ModelReader(model, samples=8).sampled_log_probs(ids)
    return any(not torch.equal(first, other) for other in others)
