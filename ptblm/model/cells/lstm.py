"""Long short-term memory, with the options of the TensorFlow and Keras cells."""

import torch
from torch import Tensor, nn

from ptblm.model.cells.activations import (
    ACTIVATIONS,
    GATE_ACTIVATIONS,
    Activation,
    GateActivation,
)
from ptblm.model.cells.cell import Affine, Cell, CellState
from ptblm.model.cells.chrono import fill_forget_bias
from ptblm.model.initializers import Initializer


class LSTMCell(Cell):
    """LSTM (Hochreiter & Schmidhuber 1997) with a forget gate (Gers et al. 2000).

        i = σ(W_i x + U_i h + b_i)                    input gate
        f = σ(W_f x + U_f h + b_f + forget_bias)      forget gate
        j = tanh(W_j x + U_j h + b_j)                 candidate, also called g
        o = σ(W_o x + U_o h + b_o)                    output gate
        c' = f ⊙ c + i ⊙ j
        h' = o ⊙ tanh(c')

    The equations are those of Zaremba et al. 2014, section 3. The four gates are rows of one
    affine map, in the order i, f, j, o, as in PyTorch and Keras. TensorFlow uses i, j, f, o.

    Peepholes (Gers et al. 2002) add p_i ⊙ c to the input of i, p_f ⊙ c to that of f, and p_o ⊙ c'
    to that of o. With a projection (Sak et al. 2014), h' = P (o ⊙ tanh(c')) is the output and the
    hidden state.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of c.
        forget_bias: constant added to the input of the forget gate; not trained.
        peepholes: whether to add the peephole weights p_i, p_f and p_o.
        projection_size: size of h; None means no projection, and h has size H.
        gate_activation: "sigmoid", or "hard_sigmoid" in place of σ.
        activation: "tanh", or "relu" or "linear" in place of both tanh.
        cap_input_gate: whether min(i, 1 - f) replaces i (Melis et al. 2020), so that |c| never
            exceeds 1 if it starts with zeros.
        chrono_steps: T_max, in time steps; b_f is initialized to log(u), with u uniform in
            [1, T_max - 1], and b_i to -b_f (Tallec & Ollivier 2018). None means zero.
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
        cap_input_gate: bool = False,
        chrono_steps: int | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.output_size = projection_size or hidden_size
        self.state_sizes = (self.output_size, hidden_size)
        self.forget_bias = forget_bias
        self.gate_activation = gate_activation
        self.activation = activation
        self.cap_input_gate = cap_input_gate
        self.chrono_steps = chrono_steps
        self.gates = Affine(input_size, self.output_size, 4 * hidden_size)
        self.peepholes = nn.Parameter(torch.empty(3, hidden_size)) if peepholes else None
        self.projection = (
            nn.Parameter(torch.empty(projection_size, hidden_size)) if projection_size else None
        )

    def initialize(self, initializer: Initializer, generator: torch.Generator) -> None:
        """Initializes the weights as in `Cell`, then the biases of forget and input gate."""
        super().initialize(initializer, generator)
        if self.chrono_steps is not None:
            with torch.no_grad():
                i, f, _, _ = self.gates.bias.chunk(4)
                fill_forget_bias(f, self.chrono_steps, generator)
                torch.neg(f, out=i)

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b of all four gates for all time steps, [T, B, 4H]."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h, c)."""
        h, c = state
        gate, activation = GATE_ACTIVATIONS[self.gate_activation], ACTIVATIONS[self.activation]
        i, f, j, o = self.gates(x, h).chunk(4, dim=1)  # [B, H] each
        if self.peepholes is not None:
            i, f = i + self.peepholes[0] * c, f + self.peepholes[1] * c
        i, f = gate(i), gate(f + self.forget_bias)
        if self.cap_input_gate:
            i = torch.minimum(i, 1 - f)
        c = f * c + i * activation(j)
        if self.peepholes is not None:
            o = o + self.peepholes[2] * c
        h = gate(o) * activation(c)
        if self.projection is not None:
            h = nn.functional.linear(h, self.projection)  # [B, projection_size]
        return h, (h, c)
