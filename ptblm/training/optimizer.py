"""Optimizers: a custom SGD, which is the hot path, and wrappers of torch.optim."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ptblm.checkpoint.structure import check_structure
from ptblm.config.optimizers import AdamConfig, MomentumConfig, RMSPropConfig, SGDConfig
from ptblm.config.training import TrainingConfig


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


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: TrainingConfig) -> Optimizer:
    """Returns the optimizer that `training.optimizer` selects.

    Args:
        parameters: the parameters to update, by name.
        config: the training config.
    """
    match config.optimizer:
        case SGDConfig():
            return SGD(parameters)
        case MomentumConfig(momentum=momentum):
            return TorchOptimizer(parameters, torch.optim.SGD, {"momentum": momentum})
        case AdamConfig(beta1=beta1, beta2=beta2, epsilon=epsilon):
            options = {"betas": (beta1, beta2), "eps": epsilon}
            return TorchOptimizer(parameters, torch.optim.Adam, options)
        case RMSPropConfig(decay=decay, epsilon=epsilon):
            options = {"alpha": decay, "eps": epsilon}
            return TorchOptimizer(parameters, torch.optim.RMSprop, options)


class SGD:
    """Stochastic gradient descent: w <- w - learning_rate * g (ptb_word_lm.py).

    The gradient scale is folded into the update, so clipping needs no extra pass. Gradients may be
    sparse.

    Args:
        parameters: the parameters to update, by name.
    """

    accepts_sparse = True

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = dict(parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Performs one update. A sparse gradient requires a number as `gradient_scale`."""
        factor = gradient_scale * -learning_rate
        if isinstance(factor, Tensor):
            factor = factor.float()  # converted after the product, which is as exact as on the host
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


class TorchOptimizer:
    """A torch.optim optimizer for named parameters.

    The first instance in a process imports the torch compiler, which takes 1.2 s. `SGD` avoids
    this.

    Args:
        parameters: the parameters to update, by name.
        kind: a class of torch.optim.
        options: options of the class, except the learning rate.
    """

    accepts_sparse = False

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        kind: type[torch.optim.Optimizer],
        options: dict[str, Any],
    ) -> None:
        self.parameters = dict(parameters)
        self._kind, self._options = kind, options
        self._optimizer = self._make(self.parameters)

    @torch.no_grad()
    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Performs one update; see `Optimizer`."""
        scale = gradient_scale.float() if isinstance(gradient_scale, Tensor) else gradient_scale
        for parameter in self.parameters.values():
            if parameter.grad is None:  # torch would skip it and not decay its averages
                parameter.grad = torch.zeros_like(parameter)
            elif isinstance(scale, Tensor) or scale != 1:
                parameter.grad.mul_(scale)
        self._optimizer.param_groups[0]["lr"] = learning_rate
        self._optimizer.step()

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state, which is empty before the first update."""
        return _named_state(self._optimizer, self.parameters)

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restores the state that `state_dict` returned; see `Optimizer`."""
        if saved:
            check_structure(self._expected_state(), dict(saved), "optimizer")
        state: dict[int, dict[str, Tensor]] = {}
        indices = {name: index for index, name in enumerate(self.parameters)}
        for key, tensor in saved.items():
            name, _, part = key.rpartition(".")
            state.setdefault(indices[name], {})[part] = tensor.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _make(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        optimizer: Any = self._kind
        made: torch.optim.Optimizer = optimizer(list(parameters.values()), lr=1.0, **self._options)
        return made

    def _expected_state(self) -> dict[str, Tensor]:
        """Returns tensors with the names, shapes and types of the state after an update.

        They are computed by updating copies on the meta device, which takes no memory.
        """
        copies = {
            name: torch.empty_like(parameter, device="meta").requires_grad_()
            for name, parameter in self.parameters.items()
        }
        for copy in copies.values():
            copy.grad = torch.empty_like(copy)
        optimizer = self._make(copies)
        optimizer.step()
        return _named_state(optimizer, copies)


def _named_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
