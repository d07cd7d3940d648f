"""The recurrent stack: LSTM layers with dropout after each, and the state they carry.

Shapes: T time, B batch, I the layer's inputs, H its units.
"""

from typing import cast

import torch
from torch import Tensor, nn

from ptblm.model.dropout import dropout

LayerState = tuple[Tensor, ...]
State = tuple[LayerState, ...]


def detach_state(state: State) -> State:
    """The same values with no gradient behind them: where back-propagation is truncated."""
    return tuple(tuple(part.detach() for part in layer) for layer in state)


class LSTMLayer(nn.Module):
    """One LSTM layer with one trained bias (Zaremba et al. 2014, equations of section 3).

        i, f, o = σ(W x + U h + b), f with forget_bias added;   j = tanh(W x + U h + b)
        c' = f ⊙ c + i ⊙ j;   h' = o ⊙ tanh(c')

    torch's `nn.LSTM` adds two bias vectors. Training both would move the bias at twice the
    rate, so only the first is trained; the second is constant and holds `forget_bias`, which
    TensorFlow adds to the forget gate in the same place. Gates lie in torch's order: i, f, j
    (there called g), o.

    Args:
        input_size: I.
        hidden_size: H.
        forget_bias: constant added to the forget gate's input.
    """

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.lstm = nn.LSTM(input_size, hidden_size)
        constant = torch.zeros(4, hidden_size)
        constant[1] = forget_bias
        self.lstm.bias_hh_l0 = nn.Parameter(constant.flatten(), requires_grad=False)

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Weights uniform in [-scale, scale], the bias zero."""
        for name in ("weight_ih_l0", "weight_hh_l0"):
            nn.init.uniform_(self.lstm.get_parameter(name), -scale, scale, generator)
        nn.init.zeros_(self.lstm.get_parameter("bias_ih_l0"))

    def initial_state(self, batch_size: int) -> LayerState:
        """Zeros: (h, c), each [B, H]."""
        weight = self.lstm.get_parameter("weight_hh_l0")
        zeros = weight.new_zeros(batch_size, self.hidden_size)
        return zeros, zeros.clone()

    def forward(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Runs over time.

        Args:
            x: [T, B, I].
            state: (h, c), each [B, H].

        Returns:
            The outputs h of every step, [T, B, H], and the last step's state.
        """
        h, c = (part.unsqueeze(0) for part in state)
        outputs, (h, c) = self.lstm(x, (h, c))
        return outputs, (h.squeeze(0), c.squeeze(0))


class RecurrentStack(nn.Module):
    """Layers one upon the other, with dropout on the output of each, the last included.

    Args:
        layers: from the lowest to the highest.
        dropout_rate: share dropped after every layer.
    """

    def __init__(self, layers: list[LSTMLayer], dropout_rate: float) -> None:
        super().__init__()
        self.layers = cast(list[LSTMLayer], nn.ModuleList(layers))
        self.dropout_rate = dropout_rate

    def initialise(self, scale: float, generator: torch.Generator) -> None:
        """Initialises every layer."""
        for layer in self.layers:
            layer.initialise(scale, generator)

    def initial_state(self, batch_size: int) -> State:
        """Every layer's start state."""
        return tuple(layer.initial_state(batch_size) for layer in self.layers)

    def forward(
        self, x: Tensor, state: State, generator: torch.Generator | None
    ) -> tuple[Tensor, State]:
        """Runs x ([T, B, I]) through all layers; dropout only with a generator."""
        last_states = []
        for layer, layer_state in zip(self.layers, state, strict=True):
            x, last_state = layer(x, layer_state)
            x = dropout(x, self.dropout_rate, generator)
            last_states.append(last_state)
        return x, tuple(last_states)
