"""Activation functions that a config can select by name."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

Activation = Literal["tanh", "relu", "linear"]
GateActivation = Literal["sigmoid", "hard_sigmoid"]


def hard_sigmoid(x: Tensor) -> Tensor:
    """Returns max(0, min(1, 0.2 x + 0.5)), the hard sigmoid of Keras 2."""
    return (0.2 * x + 0.5).clamp(0, 1)


def linear(x: Tensor) -> Tensor:
    """Returns `x` unchanged."""
    return x


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "linear": linear,
}
GATE_ACTIVATIONS: dict[GateActivation, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": hard_sigmoid,
}
