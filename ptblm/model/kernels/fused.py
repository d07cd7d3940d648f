"""Selects the fused kernel for a cell: a torch kernel (cuDNN, oneDNN) or a ptblm kernel.

A fused kernel runs all time steps in one call and uses the weights of the cell directly, so a
checkpoint does not depend on the kernel.

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
from ptblm.model.cells.sru import SRUCell
from ptblm.model.kernels.explicit_lstm import ExplicitLSTM
from ptblm.model.kernels.sru import SRURecurrence

# cuDNN copies weights that are not contiguous in each call. The copy costs as much as reading them
# once.
warnings.filterwarnings("ignore", "RNN module weights are not part of single contiguous chunk")

# Minimum size at which bf16 is faster for an LSTM on a CPU. On two cores (Zen 5), 650 units take
# 33 ms instead of 40 ms in fp32, but 200 units take 5.3 ms instead of 3.1 ms. On one core (Zen 4),
# a step of two layers of 320 units takes 140 ms instead of 158 ms.
MIN_BF16_UNITS = 320

FusedKernel = Callable[[Cell, Tensor, CellState, Tensor | None], tuple[Tensor, CellState]]


def fused_kernel(cell: Cell, device_type: str, *, masked: bool = False) -> FusedKernel | None:
    """Returns the kernel that runs `cell` over [T, B, I], or None if there is none.

    Args:
        cell: the cell.
        device_type: type of its device, such as "cpu".
        masked: whether the hidden state has a dropout mask, [B, H], the last argument of a kernel.
    """
    # `type` instead of `isinstance`, because a subclass may define different equations.
    if type(cell) is LSTMCell and _is_standard(cell) and not _is_extended(cell):
        is_explicit = masked or cell.cap_input_gate
        return cast(FusedKernel, _lstm) if device_type == "cpu" or not is_explicit else None
    if masked:
        return None
    if type(cell) is GRUCell and _is_standard(cell) and cell.reset_gate == "after":
        return cast(FusedKernel, _gru)
    if type(cell) is RNNCell and cell.activation in ("tanh", "relu"):
        return cast(FusedKernel, _rnn)
    if type(cell) is SRUCell:
        return cast(FusedKernel, _sru)
    return None


def uses_bf16(cell: Cell) -> bool:
    """Returns whether the CPU kernel of `cell` supports bf16; small LSTMs use fp32."""
    return type(cell) is not LSTMCell or cell.hidden_size >= MIN_BF16_UNITS


def _is_standard(cell: LSTMCell | GRUCell) -> bool:
    return cell.gate_activation == "sigmoid" and cell.activation == "tanh"


def _is_extended(cell: LSTMCell) -> bool:
    return cell.peepholes is not None or cell.projection is not None


def _lstm(
    cell: LSTMCell, x: Tensor, state: CellState, mask: Tensor | None
) -> tuple[Tensor, CellState]:
    """Runs an LSTM. The second bias of the kernel is not trained and contains forget_bias."""
    gates, constant = cell.gates, torch.zeros_like(cell.gates.bias)
    constant[cell.hidden_size : 2 * cell.hidden_size] = cell.forget_bias
    bf16 = x.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    mixed = bf16 and uses_bf16(cell)
    if mixed or mask is not None or cell.cap_input_gate:
        weights = [gates.weight_ih, gates.weight_hh, gates.bias + constant]
        options = mask, cell.cap_input_gate, torch.bfloat16 if mixed else gates.bias.dtype
        with torch.autocast("cpu", enabled=False):
            run = ExplicitLSTM.apply
            outputs, h, c = run(x, *state, *weights, *options)  # type: ignore[no-untyped-call]
        return outputs, (h, c)
    weights = [gates.weight_ih, gates.weight_hh, gates.bias, constant]
    return _run(torch.lstm, x, state, weights, torch.float32 if bf16 else _cuda_dtype(x))


def _gru(cell: GRUCell, x: Tensor, state: CellState, _: None) -> tuple[Tensor, CellState]:
    """Runs a GRU. The second bias of the kernel is used only for the candidate."""
    bias = cast(Tensor, cell.candidate_bias)
    second = torch.cat([bias.new_zeros(2 * cell.hidden_size), bias])
    weights = [cell.gates.weight_ih, cell.gates.weight_hh, cell.gates.bias, second]
    return _run(torch.gru, x, state, weights, _cuda_dtype(x))


def _rnn(cell: RNNCell, x: Tensor, state: CellState, _: None) -> tuple[Tensor, CellState]:
    kernel = torch.rnn_tanh if cell.activation == "tanh" else torch.rnn_relu
    affine = cell.affine
    weights = [affine.weight_ih, affine.weight_hh, affine.bias, torch.zeros_like(affine.bias)]
    return _run(kernel, x, state, weights, _cuda_dtype(x))


def _sru(cell: SRUCell, x: Tensor, state: CellState, _: None) -> tuple[Tensor, CellState]:
    outputs, c = SRURecurrence.apply(*cell.projections(x), *state)  # type: ignore[no-untyped-call]
    return outputs, (c,)


def _cuda_dtype(x: Tensor) -> torch.dtype | None:
    """Returns the autocast type on CUDA, where autocast otherwise runs cuDNN RNNs in fp16.

    None means that autocast chooses the type.
    """
    autocast = x.device.type == "cuda" and torch.is_autocast_enabled("cuda")
    return torch.get_autocast_dtype("cuda") if autocast else None


def _run(
    kernel: Callable[..., tuple[Tensor, ...]],
    x: Tensor,
    state: CellState,
    weights: list[Tensor],
    dtype: torch.dtype | None,
) -> tuple[Tensor, CellState]:
    """Calls a torch kernel in `dtype` without autocast, or with autocast if `dtype` is None."""
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
