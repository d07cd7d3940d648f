"""Optimizers: a custom SGD, which is the hot path, and the choice of others."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from ptblm.checkpoint.structure import check_structure
from ptblm.config.optimizers import (
    AdamConfig,
    AdamWConfig,
    MomentumConfig,
    MuonConfig,
    NAdamConfig,
    RMSPropConfig,
    SGDConfig,
)
from ptblm.config.training import TrainingConfig
from ptblm.training.torch_optimizers import Muon, TorchOptimizer, adam_options


class Optimizer(Protocol):
    """Updates the weights.

    Attributes:
        parameters: the parameters to update, by name.
        accepts_sparse: whether gradients may be sparse.
    """

    parameters: dict[str, nn.Parameter]
    accepts_sparse: bool

    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Performs one update with scaled gradients, which may be overwritten.

        Args:
            learning_rate: learning rate of this update.
            gradient_scale: factor that multiplies the gradients; a number, or a scalar tensor on
                the device of the parameters.
        """

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state by parameter and name, such as "head.weight.exp_avg"."""

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restores the state that `state_dict` returned.

        Raises:
            StructureMismatchError: if the state belongs to a different optimizer or model.
        """

    def set_momentum(self, momentum: float) -> None:
        """Sets the momentum of the next update, or beta1 of Adam."""


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: TrainingConfig) -> Optimizer:
    """Returns the optimizer that `training.optimizer` selects.

    Weight decay is part of the gradient after clipping, unless the optimizer decouples it. Adam,
    AdamW, NAdam, RMSProp and Muon do not depend on the scale of the gradient, and so their learning
    rates do not depend on whether the loss is a sum or a mean.

    Args:
        parameters: the parameters to update, by name.
        config: the training config.

    Raises:
        ConfigError: for Muon, if the model has no matrices that it could update.
    """
    decay = {"weight_decay": config.weight_decay}
    match config.optimizer:
        case SGDConfig():
            return SGD(parameters, config.weight_decay)
        case MomentumConfig(momentum=momentum):
            return TorchOptimizer(parameters, torch.optim.SGD, {"momentum": momentum, **decay})
        case AdamConfig():
            options = {**adam_options(config.optimizer), **decay}
            return TorchOptimizer(parameters, torch.optim.Adam, options)
        case AdamWConfig():
            options = {**adam_options(config.optimizer), **decay}
            return TorchOptimizer(parameters, torch.optim.AdamW, options)
        case NAdamConfig(momentum_decay=momentum_decay, decoupled_weight_decay=decoupled):
            options = {**adam_options(config.optimizer), **decay}
            options |= {"momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled}
            return TorchOptimizer(parameters, torch.optim.NAdam, options)
        case MuonConfig():
            return Muon(parameters, config.optimizer, config.weight_decay)
        case RMSPropConfig(decay=alpha, epsilon=epsilon):
            options = {"alpha": alpha, "eps": epsilon, **decay}
            return TorchOptimizer(parameters, torch.optim.RMSprop, options)


class SGD:
    """Stochastic gradient descent: w <- w - learning_rate * g (ptb_word_lm.py).

    The gradient scale is folded into the update, so clipping needs no extra pass. Gradients may be
    sparse. Weight decay adds a pass over the weights, w <- w * (1 - learning_rate * weight_decay),
    before the gradient is subtracted. This equals adding weight_decay * w to the gradient.

    Args:
        parameters: the parameters to update, by name.
        weight_decay: factor of the weights in the gradient.
    """

    accepts_sparse = True

    def __init__(self, parameters: Mapping[str, nn.Parameter], weight_decay: float = 0.0) -> None:
        self.parameters = dict(parameters)
        self._weight_decay = weight_decay

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Performs one update. A sparse gradient requires a number as `gradient_scale`."""
        factor = gradient_scale * -learning_rate
        if isinstance(factor, Tensor):
            factor = factor.float()  # converted after the product, which is as exact as on the host
        if self._weight_decay:
            for parameter in self.parameters.values():
                parameter.mul_(1 - learning_rate * self._weight_decay)
        for parameter in self.parameters.values():
            if parameter.grad is None:
                continue
            if isinstance(factor, Tensor):
                parameter.addcmul_(parameter.grad, factor)
            else:
                parameter.add_(parameter.grad, alpha=factor)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns an empty dict: SGD has no state."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Checks that `saved` is empty."""
        check_structure({}, dict(saved), "optimizer")

    def set_momentum(self, momentum: float) -> None:
        """Raises an error: SGD has no momentum. The config rejects schedules that change it."""
        raise NotImplementedError
