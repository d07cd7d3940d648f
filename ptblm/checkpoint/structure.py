"""Compares what was saved with what is expected in its place, down to every tensor's shape."""

from collections.abc import Set
from typing import Any

from torch import Tensor


class StructureMismatchError(ValueError):
    """What was saved is not what belongs there; the message says where."""


def check_structure(
    expected: Any, saved: Any, path: str = "", varying: Set[str] = frozenset()
) -> None:
    """Raises unless `saved` has the structure of `expected`, and only that.

    Dicts must have the same keys, lists the same length, tensors the same shape and dtype, and
    plain values the same type.

    Args:
        expected: what a part of our own looks like.
        saved: what came from a file.
        path: of the two, for the message.
        varying: paths whose insides are not compared, only their type.

    Raises:
        StructureMismatchError: naming the first difference.
    """
    if _kind(expected) is not _kind(saved):
        names = f"{_kind(expected).__name__} expected, found {_kind(saved).__name__}"
        raise StructureMismatchError(f"{path or 'it'}: {names}")
    if path in varying:
        return
    dot = f"{path}." if path else ""
    if isinstance(expected, dict):
        for key in expected.keys() - saved.keys():
            raise StructureMismatchError(f"{dot}{key}: missing")
        for key in saved.keys() - expected.keys():
            raise StructureMismatchError(f"{dot}{key}: unknown")
        for key, value in expected.items():
            check_structure(value, saved[key], f"{dot}{key}", varying)
    elif isinstance(expected, list):
        if len(expected) != len(saved):
            raise StructureMismatchError(
                f"{path}: {len(expected)} parts expected, not {len(saved)}"
            )
        for index, (one, other) in enumerate(zip(expected, saved, strict=True)):
            check_structure(one, other, f"{dot}{index}", varying)
    elif isinstance(expected, Tensor) and (
        expected.shape != saved.shape or expected.dtype != saved.dtype
    ):
        raise StructureMismatchError(
            f"{path}: {expected.dtype} of {tuple(expected.shape)} expected, "
            f"found {saved.dtype} of {tuple(saved.shape)}"
        )


def _kind(value: Any) -> type:
    """The type that counts: an ordered dict is a dict, and a parameter a tensor."""
    return next((kind for kind in (dict, Tensor) if isinstance(value, kind)), type(value))
