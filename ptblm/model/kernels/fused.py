"""Fused kernels, of torch (cuDNN, oneDNN) or our own, for the cells whose equations they compute.

They run all time steps at once, from the cell's own weights, so a checkpoint does not know
which of the two ways trained it.

Shapes: T time, B batch, I inputs, H hidden.
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor

from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.kernels.bf16_lstm import Bf16LSTM

# cuDNN wants all weights in one piece, and copies them together at each call where they are not:
# the cost of reading them once.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")

# From so many units on, bf16's gain in an LSTM's products is more than what goes on between them:
# on two cores 650 units took 33 ms instead of fp32's 40, and 200 units 5.3 instead of 3.1.
MIN_BF16_UNITS = 400

FusedKernel = Callable[[Cell, Tensor, CellState], tuple[Tensor, CellState]]


def fused_kernel(cell: Cell) -> FusedKernel | None:
    """What runs `cell` over [T, B, I] from a state, or None where no kernel has its equations."""
    # Not isinstance: a subclass may have equations of its own.
    if type(cell) is LSTMCell and _standard(cell) and not _extended(cell):
        return cast(FusedKernel, _lstm)
    if type(cell) is GRUCell and _standard(cell) and cell.reset_gate == "after":
        return cast(FusedKernel, _gru)
    if type(cell) is RNNCell and cell.activation in ("tanh", "relu"):
        return cast(FusedKernel, _rnn)
    return None


def uses_bf16(cell: Cell) -> bool:
    """Whether a CPU's fused kernel heeds bf16: an LSTM of few units computes in fp32."""
    return type(cell) is not LSTMCell or cell.hidden_size >= MIN_BF16_UNITS


def _standard(cell: LSTMCell | GRUCell) -> bool:
    return cell.gate_activation == "sigmoid" and cell.activation == "tanh"


def _extended(cell: LSTMCell) -> bool:
    return cell.peepholes is not None or cell.projection is not None


def _lstm(cell: LSTMCell, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    """The kernel adds two biases; the second, which is not trained, holds the forget_bias."""
    gates, constant = cell.gates, torch.zeros_like(cell.gates.bias)
    constant[cell.hidden_size : 2 * cell.hidden_size] = cell.forget_bias
    mixed = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if mixed and uses_bf16(cell):
        weights = [gates.weight_ih, gates.weight_hh, gates.bias + constant]
        outputs, h, c = Bf16LSTM.apply(x, *state, *weights)  # type: ignore[no-untyped-call]
        return outputs, (h, c)
    weights = [gates.weight_ih, gates.weight_hh, gates.bias, constant]
    return _run(torch.lstm, x, state, weights, torch.float32 if mixed else _cuda_type(x))


def _gru(cell: GRUCell, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    """The kernel has two biases for all three; only the candidate's second can matter."""
    bias = cast(Tensor, cell.candidate_bias)
    second = torch.cat([bias.new_zeros(2 * cell.hidden_size), bias])
    weights = [cell.gates.weight_ih, cell.gates.weight_hh, cell.gates.bias, second]
    return _run(torch.gru, x, state, weights, _cuda_type(x))


def _rnn(cell: RNNCell, x: Tensor, state: CellState) -> tuple[Tensor, CellState]:
    kernel = torch.rnn_tanh if cell.activation == "tanh" else torch.rnn_relu
    affine = cell.affine
    weights = [affine.weight_ih, affine.weight_hh, affine.bias, torch.zeros_like(affine.bias)]
    return _run(kernel, x, state, weights, _cuda_type(x))


def _cuda_type(x: Tensor) -> torch.dtype | None:
    """What a CUDA kernel is to compute in under autocast, which by itself gives cuDNN fp16 always.

    None where autocast is off, or may be left to itself.
    """
    on = x.device.type == "cuda" and torch.is_autocast_enabled("cuda")
    return torch.get_autocast_dtype("cuda") if on else None


def _run(
    kernel: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: CellState,
    weights: list[Tensor],
    dtype: torch.dtype | None,
) -> tuple[Tensor, CellState]:
    """Calls a kernel of torch's, in `dtype` whatever autocast says, or as autocast has it."""
    start = [part.unsqueeze(0) for part in state]
    if dtype is not None:
        x = x.to(dtype)
        start, weights = ([part.to(dtype) for part in parts] for parts in (start, weights))
    with nullcontext() if dtype is None else torch.autocast(x.device.type, enabled=False):
        first = start if kernel is torch.lstm else start[0]
        outputs, *last = kernel(x, first, weights, *_ONE_LAYER, torch.is_grad_enabled(), *_LAYOUT)
    return outputs, tuple(part.squeeze(0) for part in last)


# has_biases, num_layers, dropout; then bidirectional, batch_first.
_ONE_LAYER = (True, 1, 0.0)
_LAYOUT = (False, False)
