"""The long short-term memory, with the options that TensorFlow's and Keras's cells have."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.activations import (
    ACTIVATIONS,
    GATE_ACTIVATIONS,
    Activation,
    GateActivation,
)
from ptblm.model.cells.cell import Affine, Cell, CellState


class LSTMCell(Cell):
    """LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et al. 2000).

        i = σ(W_i x + U_i h + b_i)                    input gate
        f = σ(W_f x + U_f h + b_f + forget_bias)      forget gate
        j = tanh(W_j x + U_j h + b_j)                 candidate, also called g
        o = σ(W_o x + U_o h + b_o)                    output gate
        c' = f ⊙ c + i ⊙ j
        h' = o ⊙ tanh(c')

    (Zaremba et al. 2014, equations of section 3.) The four are rows of one affine map, in the
    order i, f, j, o, which is that of torch's fused kernels; TensorFlow's is i, j, f, o and
    Keras's i, f, j, o.

    With peepholes (Gers et al. 2002) i and f also see p_i ⊙ c and p_f ⊙ c, and o sees p_o ⊙ c'.
    With a projection (Sak et al. 2014) the state and output is h' = P (o ⊙ tanh(c')).

    Args:
        input_size: of x.
        hidden_size: H, of c.
        forget_bias: constant added to the forget gate's input; not trained.
        peepholes: whether there are p_i, p_f and p_o.
        projection_size: of h; None for no projection, which makes it H.
        gate_activation: "hard_sigmoid" instead of σ.
        activation: "relu" or "linear" instead of tanh, in both locations.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        forget_bias: float = 0.0,
        peepholes: bool = False,
        projection_size: int | None = None,
        gate_activation: GateActivation = "sigmoid",
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.output_size = projection_size or hidden_size
        self.state_sizes = (self.output_size, hidden_size)
        self.forget_bias = forget_bias
        self.gate_activation = gate_activation
        self.activation = activation
        self.gates = Affine(input_size, self.output_size, 4 * hidden_size)
        self.peepholes = nn.Parameter(torch.empty(3, hidden_size)) if peepholes else None
        self.projection = (
            nn.Parameter(torch.empty(projection_size, hidden_size)) if projection_size else None
        )

    def inputs(self, x: Tensor) -> Tensor:
        """W x + b of all four."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """The equations; the state is (h, c)."""
        h, c = state
        gate, activation = GATE_ACTIVATIONS[self.gate_activation], ACTIVATIONS[self.activation]
        i, f, j, o = self.gates(x, h).chunk(4, dim=1)
        if self.peepholes is not None:
            i, f = i + self.peepholes[0] * c, f + self.peepholes[1] * c
        c = gate(f + self.forget_bias) * c + gate(i) * activation(j)
        if self.peepholes is not None:
            o = o + self.peepholes[2] * c
        h = gate(o) * activation(c)
        if self.projection is not None:
            h = nn.functional.linear(h, self.projection)
        return h, (h, c)
