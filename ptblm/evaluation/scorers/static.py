"""Scores a text with the fixed weights of one model."""

import numpy as np

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.scorer import default_chunk_steps
from ptblm.evaluation.sequence_scores import score_piece
from ptblm.evaluation.token_scores import Measures, TokenScores
from ptblm.model.language_model import LanguageModel


class StaticScorer:
    """A `Scorer` with the fixed weights of one model. It carries the hidden state.

    Args:
        model: the model, in evaluation mode.
        states: whether the hidden states are measured, which is done token by token.

    Attributes:
        chunk_size: the largest number of tokens of a chunk.
    """

    def __init__(self, model: LanguageModel, *, states: bool) -> None:
        self.chunk_size = 1 if states else default_chunk_steps(model)
        self._model = model
        self._hidden_state = model.initial_state(1)

    def token_scores(self, inputs: Ids, targets: Ids, measures: Measures) -> TokenScores:
        """Returns the scores of the next tokens; see `Scorer`."""
        (scores,), self._hidden_state = score_piece(
            self._model,
            inputs[None],
            targets[None],
            np.array([len(targets)]),
            self._hidden_state,
            measures,
        )
        return scores
