"""Wrappers of the optimizers of torch.optim, for named parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ptblm.checkpoint.structure import check_structure
from ptblm.config.optimizers import AdamConfig, AdamWConfig, MuonConfig, NAdamConfig
from ptblm.errors import ConfigError


def adam_options(config: AdamConfig | AdamWConfig | NAdamConfig | MuonConfig) -> dict[str, Any]:
    """Returns the options that the classes of torch.optim derived from Adam have in common."""
    return {"betas": (config.beta1, config.beta2), "eps": config.epsilon}


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
            check_structure(self.expected_state(), dict(saved), "optimizer")
        state: dict[int, dict[str, Tensor]] = {}
        indices = {name: index for index, name in enumerate(self.parameters)}
        for key, tensor in saved.items():
            name, _, part = key.rpartition(".")
            state.setdefault(indices[name], {})[part] = tensor.clone()
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def set_momentum(self, momentum: float) -> None:
        """Sets the momentum of the next update, or beta1 of Adam."""
        (group,) = self._optimizer.param_groups
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum

    def _make(self, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
        optimizer: Any = self._kind
        made: torch.optim.Optimizer = optimizer(list(parameters.values()), lr=1.0, **self._options)
        return made

    def expected_state(self) -> dict[str, Tensor]:
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


class Muon:
    """Muon for the matrices of the recurrent layers, and AdamW for all other parameters.

    Muon (Jordan et al. 2024) replaces the momentum of a matrix by a nearly orthogonal matrix, which
    five Newton-Schulz steps in bf16 compute, as in torch.optim.Muon.

    Args:
        parameters: the parameters to update, by name.
        config: the options.
        weight_decay: decoupled weight decay of all parameters.

    Raises:
        ConfigError: if no parameter is a matrix "weight_ih" or "weight_hh".
    """

    accepts_sparse = False

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: MuonConfig, weight_decay: float
    ) -> None:
        self.parameters = dict(parameters)
        matrices = {
            name: parameter
            for name, parameter in parameters.items()
            if name.rpartition(".")[2] in ("weight_ih", "weight_hh") and parameter.dim() == 2
        }
        if not matrices:
            raise ConfigError(
                "training.optimizer: muon updates matrices named weight_ih or weight_hh, and the "
                "cell has none",
                hint="use another optimizer, such as adamw",
            )
        others = {name: p for name, p in parameters.items() if name not in matrices}
        decay = {"weight_decay": weight_decay}
        options = {"momentum": config.momentum, **decay}
        self._muon = TorchOptimizer(matrices, torch.optim.Muon, options)
        self._adam = TorchOptimizer(others, torch.optim.AdamW, {**adam_options(config), **decay})
        self._adam_factor = config.adam_factor

    def step(self, learning_rate: float, gradient_scale: float | Tensor = 1.0) -> None:
        """Performs one update; see `Optimizer`."""
        self._muon.step(learning_rate, gradient_scale)
        self._adam.step(learning_rate * self._adam_factor, gradient_scale)

    def state_dict(self) -> dict[str, Tensor]:
        """Returns the state, which is empty before the first update."""
        return self._muon.state_dict() | self._adam.state_dict()

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Restores the state that `state_dict` returned; see `Optimizer`."""
        if saved:
            expected = self._muon.expected_state() | self._adam.expected_state()
            check_structure(expected, dict(saved), "optimizer")
        for optimizer in (self._muon, self._adam):
            names = {key for key in saved if key.rpartition(".")[0] in optimizer.parameters}
            optimizer.load_state_dict({key: saved[key] for key in names})

    def set_momentum(self, momentum: float) -> None:
        """Sets the momentum of the matrices in the next update."""
        self._muon.set_momentum(momentum)


def _named_state(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": value
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
