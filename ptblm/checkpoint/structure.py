"""Checks that loaded values have the expected structure, down to the shape of each tensor."""

from collections.abc import Set
from typing import Any

from torch import Tensor


class StructureMismatchError(ValueError):
    """A loaded value does not have the expected structure; the message contains its path."""


def check_structure(
    expected: Any, saved: Any, path: str = "", varying: Set[str] = frozenset()
) -> None:
    """Raises an error unless `saved` has the same structure as `expected`.

    Dicts must have the same keys, lists the same length, tensors the same shape and dtype, and
    all other values the same type.

    Args:
        expected: a value with the expected structure.
        saved: the value to check, loaded from a file.
        path: path of the value in the file, for error messages.
        varying: paths where only the type is compared, not the content.

    Raises:
        StructureMismatchError: for the first difference.
    """
    if _kind(expected) is not _kind(saved):
        names = f"{_kind(expected).__name__} expected, found {_kind(saved).__name__}"
        raise StructureMismatchError(f"{path or 'value'}: {names}")
    if path in varying:
        return
    dot = f"{path}." if path else ""
    if isinstance(expected, dict):
        # In the order of the dicts, so that the same file always has the same message.
        for key in expected:
            if key not in saved:
                raise StructureMismatchError(f"{dot}{key}: missing")
        for key in saved:
            if key not in expected:
                raise StructureMismatchError(f"{dot}{key}: unknown")
        for key, value in expected.items():
            check_structure(value, saved[key], f"{dot}{key}", varying)
    elif isinstance(expected, list):
        if len(expected) != len(saved):
            raise StructureMismatchError(
                f"{path}: {len(expected)} items expected, found {len(saved)}"
            )
        for index, (value, saved_value) in enumerate(zip(expected, saved, strict=True)):
            check_structure(value, saved_value, f"{dot}{index}", varying)
    elif isinstance(expected, Tensor) and (
        expected.shape != saved.shape or expected.dtype != saved.dtype
    ):
        raise StructureMismatchError(
            f"{path}: {expected.dtype} of shape {tuple(expected.shape)} expected, "
            f"found {saved.dtype} of shape {tuple(saved.shape)}"
        )


def _kind(value: Any) -> type:
    """Returns the type to compare: OrderedDict counts as dict and Parameter as Tensor."""
    return next((kind for kind in (dict, Tensor) if isinstance(value, kind)), type(value))
