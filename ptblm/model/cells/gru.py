"""Gated recurrent unit, with the reset gate before or after the matrix multiplication."""

from typing import Literal

import torch
from torch import Tensor, nn

from ptblm.model.cells.activations import (
    ACTIVATIONS,
    GATE_ACTIVATIONS,
    Activation,
    GateActivation,
)
from ptblm.model.cells.cell import Affine, Cell, CellState

ResetGate = Literal["before", "after"]


class GRUCell(Cell):
    """GRU (Cho et al. 2014, equations 5 to 8).

        r = σ(W_r x + U_r h + b_r)                      reset gate
        z = σ(W_z x + U_z h + b_z)                      update gate
        n = tanh(W_n x + U_n (r ⊙ h) + b_n)             candidate, if reset_gate is "before"
        n = tanh(W_n x + r ⊙ (U_n h + b_u) + b_n)       candidate, if reset_gate is "after"
        h' = z ⊙ h + (1 - z) ⊙ n

    The paper and TensorFlow 1 apply the reset gate before the matrix multiplication; cuDNN and,
    by default, Keras apply it after. The three gates are rows of one affine map, in the order
    r, z, n, as in PyTorch. Keras uses the order z, r, n.

    Args:
        input_size: I, size of x.
        hidden_size: H, size of h.
        reset_gate: whether the reset gate acts "before" or "after" the matrix multiplication.
        gate_activation: "sigmoid", or "hard_sigmoid" in place of σ.
        activation: "tanh", or "relu" or "linear" in place of tanh.
    """

    remembers_in_output = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        reset_gate: ResetGate = "after",
        gate_activation: GateActivation = "sigmoid",
        activation: Activation = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size)
        self.reset_gate = reset_gate
        self.gate_activation = gate_activation
        self.activation = activation
        self.gates = Affine(input_size, hidden_size, 3 * hidden_size)
        self.candidate_bias = (
            nn.Parameter(torch.zeros(hidden_size)) if reset_gate == "after" else None
        )

    def inputs(self, x: Tensor) -> Tensor:
        """Computes W x + b of all three gates for all time steps, [T, B, 3H]."""
        return self.gates.inputs(x)

    def step(self, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
        """Computes one time step; the state is (h,)."""
        (h,) = state
        gate, activation = GATE_ACTIVATIONS[self.gate_activation], ACTIVATIONS[self.activation]
        x_r, x_z, x_n = x.chunk(3, dim=1)  # [B, H] each
        if self.candidate_bias is not None:
            u_r, u_z, u_n = nn.functional.linear(h, self.gates.weight_hh).chunk(3, dim=1)
            r, z = gate(x_r + u_r), gate(x_z + u_z)
            n = activation(x_n + r * (u_n + self.candidate_bias))
        else:
            weight_r, weight_z, weight_n = self.gates.weight_hh.t().chunk(3, dim=1)
            r, z = gate(torch.addmm(x_r, h, weight_r)), gate(torch.addmm(x_z, h, weight_z))
            n = activation(torch.addmm(x_n, r * h, weight_n))
        h = z * h + (1 - z) * n
        return h, (h,)
