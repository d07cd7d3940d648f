"""The language model, which predicts each token from the tokens before it.

Shapes: T time, B batch, V vocabulary, E embedding, H features.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ptblm.model.embedding import Embedding
from ptblm.model.heads.softmax import Softmax
from ptblm.model.initializers import Initializer
from ptblm.model.layers.dropout import dropout
from ptblm.model.layers.recurrent import HiddenState, RecurrentLayer, RecurrentStack

LossTerm = Callable[[Tensor], Tensor]


class LanguageModel(nn.Module):
    """Embedding, dropout, recurrent layers with dropout, softmax (Zaremba et al. 2014).

    Args:
        vocab_size: V.
        embedding_size: E, the input size of the lowest layer.
        layers: recurrent layers, from the lowest to the highest.
        dropout: dropout probability after the embedding and after each layer.
        fused: whether the loss uses a fused kernel.

    Attributes:
        loss_terms: functions of the features, [T, B, H], whose scalar results are added to the
            summed loss in training; empty by default.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        layers: Sequence[RecurrentLayer],
        dropout: float = 0.0,
        *,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.dropout_rate = dropout
        self.embedding = Embedding(vocab_size, embedding_size)
        self.recurrent = RecurrentStack(layers, dropout)
        self.head = Softmax(layers[-1].cell.output_size, vocab_size, fused=fused)
        self.loss_terms: list[LossTerm] = []

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes embedding and head uniformly, and recurrent layers with `initializer`."""
        self.embedding.initialize(initializer.scale, generator)
        self.recurrent.initialize(initializer, generator)
        self.head.initialize(initializer.scale, generator)

    def initial_state(self, batch_size: int) -> HiddenState:
        """Returns the hidden state before the first token of a text."""
        return self.recurrent.initial_state(batch_size)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Returns the parameters that the optimizer updates, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def parameter_count(self) -> int:
        """Returns the number of trainable parameters."""
        return sum(parameter.numel() for parameter in self.trainable_parameters().values())

    def forward(
        self,
        inputs: Tensor,
        targets: Tensor,
        hidden_state: HiddenState,
        generator: torch.Generator | None = None,
        *,
        scale: float = 1.0,
    ) -> tuple[Tensor, Tensor, HiddenState]:
        """Computes the loss of a training step.

        Args:
            inputs: token ids, [B, T].
            targets: the ids that follow them, [B, T].
            hidden_state: the hidden state after the previous step.
            generator: draws the dropout masks; None disables dropout.
            scale: factor that multiplies the loss.

        Returns:
            The loss, a scalar: `scale` times the sum of all -log p(target) and loss terms;
            -log p(target) in nats, [B, T], detached; and the hidden state after the last token.
        """
        features, hidden_state = self.features(inputs, hidden_state, generator)
        loss, nll = self.head.loss(features.flatten(0, 1), targets.t().flatten(), scale)
        for term in self.loss_terms:
            loss = loss + scale * term(features)
        return loss, nll.view(inputs.t().shape).t(), hidden_state

    def nll(
        self, inputs: Tensor, targets: Tensor, hidden_state: HiddenState
    ) -> tuple[Tensor, HiddenState]:
        """Returns -log p(target) in nats, [B, T], and the hidden state after the last token.

        Args:
            inputs: token ids, [B, T].
            targets: the ids that follow them, [B, T].
            hidden_state: the hidden state before the first token.
        """
        features, hidden_state = self.features(inputs, hidden_state)
        nll = self.head.nll(features.flatten(0, 1), targets.t().flatten())
        return nll.view(inputs.t().shape).t(), hidden_state

    def features(
        self,
        inputs: Tensor,
        hidden_state: HiddenState,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, HiddenState]:
        """Returns the input of the head, [T, B, H], and the hidden state after the last token.

        Args:
            inputs: token ids, [B, T].
            hidden_state: the hidden state before the first token.
            generator: draws the dropout masks; None disables dropout.
        """
        # Time is the first dimension, so that each time step is contiguous.
        embedded = dropout(self.embedding(inputs.t()), self.dropout_rate, generator)  # [T, B, E]
        features: tuple[Tensor, HiddenState] = self.recurrent(embedded, hidden_state, generator)
        return features
