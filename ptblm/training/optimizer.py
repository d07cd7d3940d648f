"""The update: gradient descent, plain, with momentum, Adam, RMSProp.

torch.optim's optimizers would do the same, but the first of them that is made imports torch's
compiler, which takes as long as importing torch itself (1.2 s measured) and needs a place for
temporary files, which a full disk has not.

Here w is a parameter, g its clipped gradient, rate the step's learning rate. A parameter that the
cost does not depend on has a gradient of zero, as the equations have it. No update waits for the
device: where the host does not know what g is to be scaled by, it is a tensor.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ptblm.config.optimizers import AdamConfig, MomentumConfig, RMSPropConfig, SGDConfig
from ptblm.config.training import TrainingConfig


class Optimizer(Protocol):
    """What updates the weights.

    Attributes:
        parameters: what is updated.
    """

    parameters: list[nn.Parameter]

    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Makes one update by `gradient_scale` times the gradients, which are used up.

        Args:
            learning_rate: of this update.
            gradient_scale: a number, or a tensor of no dimensions on the parameters' device.
        """

    def state_dict(self) -> dict[str, Any]:
        """What must be saved: numbers, and lists of a tensor for each parameter."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what `state_dict` gave, onto the parameters' device."""


def make_optimizer(parameters: Sequence[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """The optimizer that `training.optimizer` asks for, at its start."""
    match config.optimizer:
        case SGDConfig():
            return SGD(parameters)
        case MomentumConfig(momentum=momentum):
            return Momentum(parameters, momentum)
        case AdamConfig(beta1=beta1, beta2=beta2, epsilon=epsilon):
            return Adam(parameters, beta1, beta2, epsilon)
        case RMSPropConfig(decay=decay, epsilon=epsilon):
            return RMSProp(parameters, decay, epsilon)


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """All that an optimizer keeps in the size of the weights."""
    parts = optimizer.state_dict().values()
    return [tensor for part in parts if isinstance(part, list) for tensor in part]


class SGD:
    """w <- w - rate * g (ptb_word_lm.py's GradientDescentOptimizer).

    Args:
        parameters: what is updated.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Makes one update; only here, and with a number for a scale, may gradients be sparse."""
        factor = gradient_scale * -learning_rate
        if isinstance(factor, Tensor):
            factor = factor.float()  # after the product: as exact as the host's
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if isinstance(factor, Tensor):
                parameter.addcmul_(parameter.grad, factor)
            else:
                parameter.add_(parameter.grad, alpha=factor)

    def state_dict(self) -> dict[str, Any]:
        """What must be saved: nothing."""
        return {}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""


class Momentum:
    """v <- momentum * v + g;  w <- w - rate * v.

    The form of torch.optim.SGD: the rate stands outside of v, so a new rate acts at once. (In
    Sutskever et al. 2013, equation 1, it stands inside; at a constant rate the two are one.)

    Args:
        parameters: what is updated.
        momentum: share of v that stays.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], momentum: float) -> None:
        self.parameters = list(parameters)
        self.momentum = momentum
        self.velocity = _zeros(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Makes one update."""
        gradients = _gradients(self.parameters, gradient_scale)
        parts = zip(self.parameters, gradients, self.velocity, strict=True)
        for parameter, gradient, velocity in parts:
            velocity.mul_(self.momentum).add_(gradient)
            parameter.add_(velocity, alpha=-learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """What must be saved."""
        return {"velocity": self.velocity}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        _restore(self.velocity, saved["velocity"])


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1).

    m <- beta1 * m + (1 - beta1) * g
    v <- beta2 * v + (1 - beta2) * g^2
    w <- w - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)

    computed in the order that the end of their section 2 gives, which saves a pass over the
    weights: both corrections go into the rate, and sqrt(1 - beta2^t) into epsilon, so that it
    stays the same update.

    Args:
        parameters: what is updated.
        beta1: share of m that stays.
        beta2: share of v that stays.
        epsilon: keeps the quotient finite; beside the square root.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], beta1: float, beta2: float, epsilon: float
    ) -> None:
        self.parameters = list(parameters)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon
        self.updates = 0
        self.mean = _zeros(self.parameters)
        self.mean_square = _zeros(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Makes one update."""
        self.updates += 1
        correction1 = 1 - self.beta1**self.updates
        correction2 = math.sqrt(1 - self.beta2**self.updates)
        rate = learning_rate * correction2 / correction1
        gradients = _gradients(self.parameters, gradient_scale)
        parts = zip(self.parameters, gradients, self.mean, self.mean_square, strict=True)
        for parameter, gradient, mean, mean_square in parts:
            mean.lerp_(gradient, 1 - self.beta1)
            mean_square.mul_(self.beta2).addcmul_(gradient, gradient, value=1 - self.beta2)
            # From here on the gradient's place is free.
            root = torch.sqrt(mean_square, out=gradient).add_(self.epsilon * correction2)
            parameter.addcdiv_(mean, root, value=-rate)

    def state_dict(self) -> dict[str, Any]:
        """What must be saved."""
        return {"updates": self.updates, "mean": self.mean, "mean_square": self.mean_square}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        self.updates = saved["updates"]
        _restore(self.mean, saved["mean"])
        _restore(self.mean_square, saved["mean_square"])


class RMSProp:
    """v <- decay * v + (1 - decay) * g^2;  w <- w - rate * g / (sqrt(v) + epsilon).

    (Tieleman & Hinton 2012, lecture 6.5, which has no epsilon. Here it is beside the square root,
    as in torch.optim.RMSprop; TensorFlow 1 has it under the root.)

    Args:
        parameters: what is updated.
        decay: share of v that stays.
        epsilon: keeps the quotient finite.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float, epsilon: float) -> None:
        self.parameters = list(parameters)
        self.decay, self.epsilon = decay, epsilon
        self.mean_square = _zeros(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Makes one update."""
        gradients = _gradients(self.parameters, gradient_scale)
        parts = zip(self.parameters, gradients, self.mean_square, strict=True)
        for parameter, gradient, mean_square in parts:
            mean_square.mul_(self.decay).addcmul_(gradient, gradient, value=1 - self.decay)
            root = mean_square.sqrt().add_(self.epsilon)
            parameter.addcdiv_(gradient, root, value=-learning_rate)

    def state_dict(self) -> dict[str, Any]:
        """What must be saved."""
        return {"mean_square": self.mean_square}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Restores what `state_dict` gave."""
        _restore(self.mean_square, saved["mean_square"])


def _zeros(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]


def _gradients(parameters: Iterable[nn.Parameter], scale: float | Tensor) -> Iterator[Tensor]:
    """Each parameter's gradient times `scale`, made when it is asked for, in its own place."""
    factor = scale.float() if isinstance(scale, Tensor) else scale
    for parameter in parameters:
        if parameter.grad is None:
            yield torch.zeros_like(parameter)
        elif isinstance(factor, float) and factor == 1:
            yield parameter.grad
        else:
            yield parameter.grad.mul_(factor)


def _restore(tensors: Iterable[Tensor], saved: Iterable[Tensor]) -> None:
    for tensor, value in zip(tensors, saved, strict=True):
        tensor.copy_(value)
