"""Finds the parameters of a model in what a file of torch.save contains."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ptblm.checkpoint.pickle_records import ObjectRecord, PickleError, TensorRecord

_MAX_MODULES, _MAX_DEPTH, _MAX_TENSORS = 1000, 8, 1000
# Prefixes of DataParallel and torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
# Keys under which training scripts store the state_dict.
_STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model", "net")


@dataclass(frozen=True)
class PickledModule:
    """The parameters and attributes of a model, by their names in PyTorch.

    Attributes:
        kind: "module" for a whole module, "state_dict" for its parameters only.
        tensors: parameters, such as "rnn.weight_ih_l0".
        attributes: other plain values, such as "rnn.mode"; empty for a state_dict.
        others: the other objects of a list such as `[model, criterion, optimizer]`.
    """

    kind: str
    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)
    others: list[Any] = field(default_factory=list)


def find_module(content: Any) -> PickledModule:
    """Returns the model in a pickled value.

    The value is a module, a state_dict, a dict that contains a state_dict, or a list that begins
    with one of them. The prefixes of `DataParallel` and `torch.compile` are removed from the names.

    Raises:
        PickleError: if there is no model.
    """
    others: list[Any] = []
    if isinstance(content, list | tuple) and content:
        content, *others = content
    if isinstance(content, dict):
        inner = next((content[key] for key in _STATE_DICT_KEYS if key in content), None)
        content = content if inner is None else inner
    if isinstance(content, ObjectRecord):
        found = PickledModule("module", others=others)
        for prefix, module in _modules(content):
            _collect(module, prefix, found)
        if not found.tensors:
            raise PickleError(f"it contains an object of {content.name}, which has no parameters")
    elif isinstance(content, dict):
        values = {name: _without_variable(value) for name, value in content.items()}
        tensors = {
            name: tensor
            for name, tensor in values.items()
            if isinstance(name, str) and isinstance(tensor, TensorRecord)
        }
        found = PickledModule("state_dict", tensors, others=others)
    else:
        found = PickledModule("nothing")
    if not found.tensors:
        raise PickleError(
            "the file contains no model: neither a module nor a state_dict",
            hint="pass a file that was written by torch.save(model, FILE) or "
            "torch.save(model.state_dict(), FILE)",
        )
    if len(found.tensors) > _MAX_TENSORS:
        raise PickleError(f"the model has more than {_MAX_TENSORS:,} tensors")
    return _without_prefix(found)


def _modules(root: ObjectRecord) -> Iterator[tuple[str, ObjectRecord]]:
    """Yields a module and the modules in it, each with the prefix of its names.

    Raises:
        PickleError: if there are too many, or a module contains itself.
    """
    waiting, number = [("", root, 0)], 0
    while waiting:
        prefix, module, depth = waiting.pop()
        number += 1
        if number > _MAX_MODULES or depth > _MAX_DEPTH or len(prefix) > 1000:
            raise PickleError("damaged: the model has too many modules")
        yield prefix, module
        children = _state(module).get("_modules")
        for name, child in children.items() if isinstance(children, dict) else ():
            if isinstance(child, ObjectRecord):
                waiting.append((f"{prefix}{name}.", child, depth + 1))


def _collect(module: ObjectRecord, prefix: str, found: PickledModule) -> None:
    state = _state(module)
    parameters = state.get("_parameters")
    for name, tensor in parameters.items() if isinstance(parameters, dict) else ():
        tensor = _without_variable(tensor)
        if isinstance(tensor, TensorRecord) and isinstance(name, str):
            found.tensors[prefix + name] = tensor
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, str | int | float):
            found.attributes[prefix + name] = value


def _without_variable(value: Any) -> Any:
    """Returns the tensor in a variable of torch 0.1, whose state began with it."""
    if isinstance(value, ObjectRecord) and isinstance(value.state, tuple) and value.state:
        return value.state[0]
    return value


def _state(module: ObjectRecord) -> dict[Any, Any]:
    return module.state if isinstance(module.state, dict) else {}


def _without_prefix(module: PickledModule) -> PickledModule:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in module.tensors):
            tensors = {name.removeprefix(prefix): each for name, each in module.tensors.items()}
            values = {name.removeprefix(prefix): each for name, each in module.attributes.items()}
            return _without_prefix(PickledModule(module.kind, tensors, values, module.others))
    return module
