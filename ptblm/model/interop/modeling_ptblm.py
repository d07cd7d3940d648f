"""A recurrent language model of ptblm for Transformers. It needs torch and transformers only.

Each text starts with the token that ends sentences, and with the initial state of the model. The
model computes the whole text in each call, so `generate` is slow for long texts. Padding must be on
the right; the attention mask is ignored, because it cannot change the tokens before it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

_LAYERS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *args, **options: nn.RNN(*args, nonlinearity="relu", **options),
}


class PtblmConfig(PretrainedConfig):
    """The sizes of the model.

    Args:
        kind: the kind of the recurrent layers: "lstm", "gru", "rnn_tanh" or "rnn_relu".
        embedding_size: size of the vectors of the tokens.
        layer_sizes: units in each layer.
        projection_size: size of the input of the softmax; None for that of the last layer.
        sum_layers: whether the softmax sees the sum of the outputs of all layers.
        tie_word_embeddings: whether the weight of the softmax is that of the embedding.
    """

    model_type = "ptblm"

    def __init__(
        self,
        vocab_size: int = 0,
        kind: str = "lstm",
        embedding_size: int = 1,
        layer_sizes: tuple[int, ...] = (1,),
        projection_size: int | None = None,
        sum_layers: bool = False,
        tie_word_embeddings: bool = False,
        **options: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.kind = kind
        self.embedding_size = embedding_size
        self.layer_sizes = list(layer_sizes)
        self.hidden_size = self.layer_sizes[-1]
        self.num_hidden_layers = len(self.layer_sizes)
        self.projection_size = projection_size
        self.sum_layers = sum_layers
        super().__init__(tie_word_embeddings=tie_word_embeddings, **options)


class PtblmForCausalLM(PreTrainedModel, GenerationMixin):
    """Embedding, recurrent layers, softmax."""

    config_class = PtblmConfig
    _tied_weights_keys = {"softmax.weight": "embedding.weight"}  # noqa: RUF012

    def __init__(self, config: PtblmConfig) -> None:
        super().__init__(config)
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_size)
        sizes = [config.embedding_size, *config.layer_sizes]
        self.layers = nn.ModuleList(
            _LAYERS[config.kind](inputs, units, batch_first=True)
            for inputs, units in zip(sizes, config.layer_sizes, strict=False)
        )
        parts = 2 if config.kind == "lstm" else 1
        self.initial_state = nn.ParameterList(
            torch.zeros(parts, units) for units in config.layer_sizes
        )
        self.projection = (
            nn.Linear(config.hidden_size, config.projection_size, bias=False)
            if config.projection_size
            else None
        )
        features = config.projection_size or config.hidden_size
        self.softmax = nn.Linear(features, config.vocab_size)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Returns the embedding."""
        return self.embedding

    def get_output_embeddings(self) -> nn.Module:
        """Returns the softmax."""
        return self.softmax

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - padding is on the right
        labels: Tensor | None = None,
        **_: Any,
    ) -> CausalLMOutput:
        """Returns the logits of the next token at each place.

        Args:
            input_ids: ids of the tokens, [N, L].
            attention_mask: ignored.
            labels: the same ids, for a loss: the mean -log p of all tokens but the first. Places
                with -100 do not count.
        """
        x = self.embedding(input_ids)  # [N, L, E]
        outputs = []
        for layer, initial in zip(self.layers, self.initial_state, strict=True):
            state = initial[:, None, None].expand(-1, 1, len(x), -1).contiguous()
            x, _state = layer(x, tuple(state) if len(state) == 2 else state[0])
            outputs.append(x)
        if self.config.sum_layers:
            x = torch.stack(outputs).sum(dim=0)
        if self.projection is not None:
            x = self.projection(x)
        logits = self.softmax(x)  # [N, L, V]
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
            )
        return CausalLMOutput(loss=loss, logits=logits)

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,  # noqa: ARG002
        **_: Any,
    ) -> dict[str, Tensor]:
        """Returns the arguments of `forward` for the next token."""
        return {"input_ids": input_ids}
