"""Finds the parameters of a model in what a file of torch.save contains."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ptblm.checkpoint.pickle_records import ObjectRecord, PickleError, TensorRecord

_MAX_MODULES, _MAX_DEPTH, _MAX_TENSORS = 1000, 8, 1000
_MAX_ENTRIES = 100_000  # of all modules; modules can share their entries
_MAX_NAME = 1000
# Prefixes of DataParallel and torch.compile.
_PREFIXES = ("module.", "_orig_mod.")
# Keys under which training scripts store the state_dict.
_STATE_DICT_KEYS = ("model_state_dict", "state_dict", "model", "net")


@dataclass(frozen=True)
class PickledModule:
    """The parameters and attributes of a model, by their names in PyTorch.

    Attributes:
        tensors: parameters, such as "rnn.weight_ih_l0".
        attributes: other plain values, such as "rnn.mode"; empty for a state_dict.
        others: the other objects of a list such as `[model, criterion, optimizer]`.
    """

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
        found = PickledModule(others=others)
        for prefix, module in _modules(content):
            _collect(module, prefix, found)
        if not found.tensors:
            raise PickleError(f"it contains an object of {content.name}, which has no parameters")
    elif isinstance(content, dict):
        found = PickledModule(_tensors(content), others=others)
    else:
        found = PickledModule()
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
    waiting, number, entries = [("", root, 0)], 0, 0
    while waiting:
        prefix, module, depth = waiting.pop()
        state, children = _dict(module.state), _entries(module, "_modules")
        number += 1
        entries += len(state) + len(children) + len(_entries(module, "_parameters"))
        if number > _MAX_MODULES or depth > _MAX_DEPTH or entries > _MAX_ENTRIES:
            raise PickleError("damaged: the model has too many modules")
        yield prefix, module
        for name, child in _named(children):
            if isinstance(child, ObjectRecord):
                waiting.append((f"{prefix}{name}.", child, depth + 1))


def _collect(module: ObjectRecord, prefix: str, found: PickledModule) -> None:
    for name, tensor in _tensors(_entries(module, "_parameters")).items():
        found.tensors[prefix + name] = tensor
    for name, value in _named(_dict(module.state)):
        if isinstance(value, str | int | float):
            found.attributes[prefix + name] = value


def _tensors(values: dict[Any, Any]) -> dict[str, TensorRecord]:
    found = ((name, _without_variable(value)) for name, value in _named(values))
    return {name: tensor for name, tensor in found if isinstance(tensor, TensorRecord)}


def _named(values: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the entries whose key is a name.

    Raises:
        PickleError: if a name is too long; it would be repeated for each module that has it.
    """
    for name, value in values.items():
        if isinstance(name, str):
            if len(name) > _MAX_NAME:
                raise PickleError(f"damaged: a name has more than {_MAX_NAME:,} characters")
            yield name, value


def _without_variable(value: Any) -> Any:
    """Returns the tensor in a variable of torch 0.1, whose state began with it."""
    if isinstance(value, ObjectRecord) and isinstance(value.state, tuple) and value.state:
        return value.state[0]
    return value


def _entries(module: ObjectRecord, name: str) -> dict[Any, Any]:
    """Returns a dict in the state of a module, such as its parameters; {} if there is none."""
    return _dict(_dict(module.state).get(name))


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _without_prefix(module: PickledModule) -> PickledModule:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in module.tensors):
            tensors = {name.removeprefix(prefix): each for name, each in module.tensors.items()}
            values = {name.removeprefix(prefix): each for name, each in module.attributes.items()}
            return _without_prefix(PickledModule(tensors, values, module.others))
    return module
