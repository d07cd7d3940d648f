"""The language model: from word ids to the likelihood of the words that follow.

Shapes: T time, B batch, V vocabulary, E embedding, H hidden.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ptblm.model.heads.softmax import Softmax
from ptblm.model.initializers import Initializer
from ptblm.model.layers.dropout import dropout
from ptblm.model.layers.recurrent import RecurrentLayer, RecurrentStack, State


class LanguageModel(nn.Module):
    """Embedding, dropout, recurrent layers with dropout, softmax (Zaremba et al. 2014).

    Args:
        vocab_size: V.
        embedding_size: E, which is what the lowest layer takes.
        layers: recurrent layers, from the lowest to the highest.
        dropout: share dropped after the embedding and after every layer.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        layers: Sequence[RecurrentLayer],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.dropout_rate = dropout
        # `initialize` fills the table; nn.Embedding itself would draw it from global randomness.
        table = nn.Parameter(torch.empty(vocab_size, embedding_size))
        self.embedding = nn.Embedding(vocab_size, embedding_size, _weight=table)
        self.recurrent = RecurrentStack(layers, dropout)
        self.softmax = Softmax(layers[-1].cell.output_size, vocab_size)

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Sets all weights: embedding and softmax uniform, recurrent ones as `initializer` says."""
        scale = initializer.scale
        nn.init.uniform_(self.embedding.weight, -scale, scale, generator)
        self.recurrent.initialize(initializer, generator)
        self.softmax.initialize(scale, generator)

    def initial_state(self, batch_size: int) -> State:
        """The state before a text's first word."""
        return self.recurrent.initial_state(batch_size)

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What the optimizer updates."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def parameter_count(self) -> int:
        """How many trained numbers the model has."""
        return sum(parameter.numel() for parameter in self.trainable_parameters())

    def nll(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, State]:
        """How unlikely the model finds each target word.

        Args:
            inputs: word ids, [B, T].
            targets: the ids that follow them, [B, T].
            state: where the last call's text ended.
            generator: draws the dropout masks; None means no dropout.

        Returns:
            -log p(target) in nats, [B, T], and the state after the last word.
        """
        hidden, state = self.hidden(inputs, state, generator)
        nll = self.softmax.nll(hidden.flatten(0, 1), targets.t().flatten())
        return nll.view(inputs.shape[1], inputs.shape[0]).t(), state

    def hidden(
        self, inputs: Tensor, state: State, generator: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """What the softmax is given, [T, B, H], and the state after the last word.

        Args:
            inputs: word ids, [B, T].
            state: where the last call's text ended.
            generator: draws the dropout masks; None means no dropout.
        """
        # Time first: recurrent layers want each step's batch contiguous.
        embedded = dropout(self.embedding(inputs.t()), self.dropout_rate, generator)
        hidden: tuple[Tensor, State] = self.recurrent(embedded, state, generator)
        return hidden
