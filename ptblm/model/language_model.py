"""The language model, which predicts each token from the tokens before it.

Shapes: T time, B batch, V vocabulary, E embedding, H features.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ptblm.config.dropout import DropoutConfig
from ptblm.model.embedding import Embedding
from ptblm.model.heads.head import Head
from ptblm.model.heads.softmax import Softmax
from ptblm.model.initializers import Initializer
from ptblm.model.layers.dropout import dropout, word_dropout
from ptblm.model.layers.recurrent import HiddenState, RecurrentLayer, RecurrentStack, StackOutput

LossTerm = Callable[[StackOutput], Tensor]


class LanguageModel(nn.Module):
    """Embedding, dropout, recurrent layers with dropout, softmax (Zaremba et al. 2014).

    Args:
        vocab_size: V.
        embedding_size: E, the input size of the lowest layer.
        layers: recurrent layers, from the lowest to the highest.
        dropout: dropout probabilities; None for no dropout.
        head: the head; None for a softmax.
        output_projection: size of a linear map without bias between the layers and the head (Melis
            et al. 2018, arXiv:1707.05589); None for no map.
        sum_layers: whether the head sees the sum of the outputs of all layers.
        tie_embeddings: whether the weight of the head is that of the embedding (Press & Wolf 2017,
            arXiv:1608.05859; Inan et al. 2017, arXiv:1611.01462). `state_dict` contains it once, as
            that of the embedding.
        fused: whether the loss of a softmax uses a fused kernel.

    Attributes:
        loss_terms: functions of the output of the layers, whose scalar results are added to the
            summed loss in training; empty by default.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        layers: Sequence[RecurrentLayer],
        dropout: DropoutConfig | None = None,
        *,
        head: Head | None = None,
        output_projection: int | None = None,
        sum_layers: bool = False,
        tie_embeddings: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.dropout = dropout or DropoutConfig()
        self.embedding = Embedding(vocab_size, embedding_size)
        self.recurrent = RecurrentStack(layers, self.dropout, sum_layers=sum_layers)
        size = layers[-1].cell.output_size
        self.projection = (
            nn.Parameter(torch.empty(output_projection, size)) if output_projection else None
        )
        self.head = head or Softmax(output_projection or size, vocab_size, fused=fused)
        self.loss_terms: list[LossTerm] = []
        self.is_tied = tie_embeddings
        if tie_embeddings:
            self.head.weight = self.embedding.get_parameter("weight")
            self.register_state_dict_post_hook(_remove_tied_weight)  # type: ignore[no-untyped-call]
            self.head.register_load_state_dict_pre_hook(_keep_tied_weight)  # type: ignore[no-untyped-call]
            self.register_load_state_dict_post_hook(_tie_loaded_weight)  # type: ignore[no-untyped-call]

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes embedding and head uniformly, and all other weights with `initializer`."""
        self.embedding.initialize(initializer.scale, generator)
        self.recurrent.initialize(initializer, generator)
        if self.projection is not None:
            initializer.matrix(self.projection, generator)
        self.head.initialize(initializer.scale, generator, is_tied=self.is_tied)

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
        output = self._run_layers(inputs, hidden_state, generator)
        features = self._head_input(output.features)
        loss, nll = self.head.loss(features, targets.t(), scale, generator)
        for term in self.loss_terms:
            loss = loss + scale * term(output)
        return loss, nll.view(inputs.t().shape).t(), output.hidden_state

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
        output = self._run_layers(inputs, hidden_state, generator)
        return self._head_input(output.features), output.hidden_state

    def _run_layers(
        self, inputs: Tensor, hidden_state: HiddenState, generator: torch.Generator | None
    ) -> StackOutput:
        # Time is the first dimension, so that each time step is contiguous.
        ids, rates = inputs.t(), self.dropout
        x = word_dropout(self.embedding(ids), ids, self.vocab_size, rates.embedding, generator)
        x = dropout(x, rates.input, generator, locked=rates.locked)  # [T, B, E]
        output: StackOutput = self.recurrent(x, hidden_state, generator)
        return output

    def _head_input(self, features: Tensor) -> Tensor:
        """Returns the input of the head, [..., H]."""
        if self.projection is None:
            return features
        return nn.functional.linear(features, self.projection)


def _remove_tied_weight(_: LanguageModel, state: dict[str, Any], prefix: str, *__: Any) -> None:
    """Removes the weight of the head from a `state_dict`: it is that of the embedding."""
    del state[f"{prefix}head.weight"]


def _keep_tied_weight(head: Head, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Lets the head load its own weight, which is saved as that of the embedding."""
    state.setdefault(f"{prefix}weight", head.weight)


def _tie_loaded_weight(model: LanguageModel, _: Any) -> None:
    """Ties the weights again, as `assign=True` replaces that of the embedding."""
    model.head.weight = model.embedding.get_parameter("weight")
