"""Activations of the gate that decides what a recurrent layer keeps, token by token.

The gates are computed with the equations of the cell, because a fused kernel does not return them.

Shapes: T tokens, H units of a layer.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.analysis import GateMap
from ptblm.evaluation.scorer import default_chunk_steps
from ptblm.model.cells.activations import GATE_ACTIVATIONS
from ptblm.model.cells.cell import Cell, CellState
from ptblm.model.cells.gru import GRUCell
from ptblm.model.cells.janet import JANETCell
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.cells.mogrifier import MogrifierCell
from ptblm.model.cells.rlstm import RLSTMCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.cells.sru import SRUCell
from ptblm.model.language_model import LanguageModel


class Gate(NamedTuple):
    """A gate at one time step.

    Attributes:
        name: "forget" or "update".
        activation: the share of the memory that the cell keeps, [1, H].
    """

    name: str
    activation: Tensor


def memory_gate(cell: Cell, x: Tensor, state: CellState) -> Gate | None:
    """Returns the gate that multiplies the memory of a cell; None if there is none.

    Args:
        cell: the cell. Custom cells have no known gate, even if they extend another cell.
        x: one time step of the result of `cell.inputs`, [1, any size].
        state: the state before the time step.
    """
    # `type` instead of `isinstance`, because a subclass may define different equations.
    kind, h = type(cell), state[0]
    if isinstance(cell, LSTMCell) and kind is LSTMCell:
        f = cell.gates(x, h).chunk(4, dim=1)[1] + cell.forget_bias
        if cell.peepholes is not None:
            f = f + cell.peepholes[1] * state[1]
        return Gate("forget", GATE_ACTIVATIONS[cell.gate_activation](f))
    if isinstance(cell, MogrifierCell) and kind is MogrifierCell:
        x, h = cell.rounds.gate(x, h)
        return memory_gate(cell.lstm, cell.lstm.inputs(x), (h, state[1]))
    if isinstance(cell, RLSTMCell) and kind is RLSTMCell:
        if cell.rounds:
            x, h = cell.rounds.gate(x, h)
            x = cell.gates.inputs(x)
        i, j = cell.gates(x, h).chunk(2, dim=1)
        candidate = cell.forget.inputs(torch.sigmoid(i) * torch.tanh(j))
        return Gate("forget", torch.sigmoid(cell.forget(candidate, h) + cell.forget_bias))
    if isinstance(cell, SLSTMCell) and kind is SLSTMCell:
        return Gate("forget", torch.sigmoid(cell.gates(x, h).chunk(2, dim=1)[0] + cell.forget_bias))
    if isinstance(cell, JANETCell) and kind is JANETCell:
        return Gate("forget", torch.sigmoid(cell.gates(x, h).chunk(2, dim=1)[0]))
    if isinstance(cell, SRUCell) and kind is SRUCell:
        return Gate("forget", torch.sigmoid(x.chunk(4, dim=1)[1]))
    if isinstance(cell, GRUCell) and kind is GRUCell:
        z = x.chunk(3, dim=1)[1] + nn.functional.linear(h, cell.gates.weight_hh.chunk(3)[1])
        return Gate("update", GATE_ACTIVATIONS[cell.gate_activation](z))
    return None


def gate_maps(model: LanguageModel, before: Ids, ids: Ids, units: int = 24) -> list[GateMap]:
    """Returns the activations of the gates of all layers while the model reads tokens.

    Args:
        model: the model, in evaluation mode.
        before: ids of the text before the tokens, which determine the hidden state.
        ids: the tokens, [T], at least one.
        units: number of units of each layer to return: those whose activations vary most.

    Returns:
        One map for each layer, from the lowest; an empty list if the cell has no known gate.
    """
    device = next(model.parameters()).device
    hidden_state, steps = model.initial_state(1), default_chunk_steps(model)
    maps = []
    with torch.inference_mode():
        for start in range(0, len(before), steps):
            chunk = torch.from_numpy(before[None, start : start + steps].astype(np.int64))
            _, hidden_state = model.features(chunk.to(device), hidden_state)
        x = model.embedding(torch.from_numpy(ids[:, None].astype(np.int64)).to(device))  # [T, 1, E]
        for number, (layer, state) in enumerate(
            zip(model.recurrent.layers, hidden_state, strict=True), start=1
        ):
            gates, outputs = [], []
            for step_input in layer.cell.inputs(x).unbind(0):
                gate = memory_gate(layer.cell, step_input, state)
                if gate is None:
                    return []
                output, state = layer.cell.step(step_input, state)
                gates.append(gate)
                outputs.append(output)
            x = torch.stack(outputs)  # [T, 1, H]
            activations = torch.cat([gate.activation for gate in gates]).cpu().double().numpy()
            chosen = np.argsort(-activations.var(axis=0), kind="stable")[:units]
            maps.append(
                GateMap(number, gates[0].name, chosen.tolist(), activations[:, chosen].tolist())
            )
    return maps
