"""Compares gradients with finite differences."""

from collections.abc import Callable, Mapping

import pytest
from torch import Tensor, nn

_STEP = 1e-6


def assert_gradients_match(
    loss: Callable[[], float], model: nn.Module, gradients: Mapping[str, Tensor]
) -> None:
    """Compares about five elements of each gradient with central differences, in float64.

    Args:
        loss: computes the loss with the present parameters of the model.
        model: the model, whose parameters are changed and restored.
        gradients: the gradient of the loss, by the name of the parameter.
    """
    for name, parameter in model.named_parameters():
        flat, gradient = parameter.data.view(-1), gradients[name].flatten()
        for index in range(0, flat.numel(), max(1, flat.numel() // 5)):
            before = flat[index].item()
            flat[index] = before + _STEP
            above = loss()
            flat[index] = before - _STEP
            below = loss()
            flat[index] = before
            expected = (above - below) / (2 * _STEP)
            assert gradient[index].item() == pytest.approx(expected, rel=1e-5, abs=1e-8), name
