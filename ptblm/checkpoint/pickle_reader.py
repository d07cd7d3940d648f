"""Reads a pickle as plain data, without importing or calling anything that it names.

Here, a class becomes its name, and an object becomes an `ObjectRecord`. `pickle.Unpickler` and
`torch.load(weights_only=True)` do not suffice: a deeply nested key ends the process in both, and
the latter cannot read whole modules in files of torch before 1.6.
"""

import io
import pickletools
import struct
import warnings
from collections.abc import Callable
from typing import Any

from ptblm.checkpoint.pickle_records import (
    ClassName,
    ObjectRecord,
    PickleError,
    call,
    checked_name,
)

# A pickled language model and its optimizer have a few thousand operations.
MAX_OPERATIONS = 500_000
# Keys other than str and bytes, such as the parameters' ids in an optimizer. A file can choose
# numbers with equal hashes, which makes a dict slow: 100,000 of them take minutes.
MAX_NUMERIC_KEYS = 5_000
_MAX_MEMO_INDEX = 2**32

PersistentId = Callable[[Any], Any]

_CONSTANTS = {
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "BYTEARRAY8"),
}
_NAMED = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_SCALARS = (str, bytes, int, float, bool, type(None))
_MARK = object()


def read_pickle(stream: io.BytesIO, persistent_id: PersistentId) -> Any:
    """Reads one pickle and leaves the stream behind it.

    Args:
        stream: the bytes, which the caller has bounded.
        persistent_id: returns the value of a persistent id, which stands for a storage.

    Returns:
        Dicts, lists, tuples, scalars and the records of `pickle_records`. They can contain
        themselves.

    Raises:
        PickleError: if the pickle is damaged, has too many operations, or names anything that a
            file of a language model does not need.
    """
    reader = _Reader(persistent_id)
    try:
        with warnings.catch_warnings():
            # Damaged text can contain an escape sequence that Python reports as deprecated.
            warnings.simplefilter("ignore", DeprecationWarning)
            for operation, argument, _ in pickletools.genops(stream):
                reader.run(operation.name, argument)
    except (IndexError, KeyError):
        raise PickleError("damaged: the pickle refers to a value that does not exist") from None
    except (ValueError, OverflowError, struct.error):
        # PickleError is not a ValueError.
        raise PickleError("damaged: the pickle cannot be read") from None
    if len(reader.stack) != 1 or reader.stack[0] is _MARK:
        raise PickleError("damaged: the pickle does not end with one value")
    return reader.stack[0]


class _Reader:
    """The stack machine of the pickle format."""

    def __init__(self, persistent_id: PersistentId) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = MAX_OPERATIONS
        self._numeric_keys_left = MAX_NUMERIC_KEYS
        self._persistent_id = persistent_id

    def run(self, name: str, argument: Any) -> None:
        """Runs one operation."""
        self._spend(1)
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_NAMED.get(name, argument))
            return
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._items()
            case "DUP":
                stack.append(stack[-1])
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                if not 0 <= argument < _MAX_MEMO_INDEX:
                    raise PickleError("damaged: the pickle numbers a value incorrectly")
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "EMPTY_LIST" | "EMPTY_SET":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "LIST":
                stack.append(self._items())
            case "TUPLE" | "FROZENSET":
                stack.append(tuple(self._items()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "DICT":
                items = self._items()
                stack.append({})
                self._set_items(items)
            case "APPEND":
                (item,) = self._pop(1)
                self._expect(list).append(item)
            case "APPENDS" | "ADDITEMS":
                items = self._items()
                self._expect(list).extend(items)
            case "SETITEM":
                self._set_items(self._pop(2))
            case "SETITEMS":
                self._set_items(self._items())
            case "GLOBAL":
                module, _, attribute = argument.partition(" ")
                stack.append(checked_name(module, attribute))
            case "STACK_GLOBAL":
                module, attribute = self._pop(2)
                stack.append(checked_name(module, attribute))
            case "REDUCE" | "NEWOBJ":
                function, arguments = self._pop(2)
                self._call(function, arguments, {})
            case "NEWOBJ_EX":
                self._call(*self._pop(3))
            case "BUILD":
                (state,) = self._pop(1)
                if isinstance(self._top(), ObjectRecord):
                    stack[-1].state = state
            case "BINPERSID":
                (identifier,) = self._pop(1)
                stack.append(self._persistent_id(identifier))
            case _:
                raise PickleError(f"the pickle contains the operation {name}, unlike any model")

    def _call(self, function: Any, arguments: Any, keywords: Any) -> None:
        if not isinstance(function, ClassName) or not isinstance(arguments, tuple) or keywords:
            raise PickleError("damaged: the pickle calls something that is not a class")
        result = call(function.name, arguments)
        if isinstance(result, list):  # the items of a dict
            self.stack.append({})
            for pair in result:
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    raise PickleError("damaged: the items of a dict are not pairs")
                self._spend(1)
                self._set_items([*pair])
        else:
            self.stack.append(result)

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, ObjectRecord):  # of a subclass of dict, which models do not need
            return
        mapping = self._expect(dict)
        if len(items) % 2:
            raise PickleError("damaged: a key has no value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of nested tuples is computed recursively, without a limit.
            if isinstance(key, tuple) and not all(isinstance(part, _SCALARS) for part in key):
                raise PickleError("damaged: a key is a nested tuple")
            if isinstance(key, list | dict | bytearray):
                raise PickleError("damaged: a key is not hashable")
            if not isinstance(key, str | bytes):
                self._numeric_keys_left -= 1
                if self._numeric_keys_left < 0:
                    raise PickleError(f"more than {MAX_NUMERIC_KEYS:,} keys are not names")
            mapping[key] = value

    def _expect(self, kind: type) -> Any:
        if not isinstance(self._top(), kind):
            raise PickleError(f"damaged: the pickle adds items to what is not a {kind.__name__}")
        return self._top()

    def _top(self) -> Any:
        if self.stack[-1] is _MARK:
            raise IndexError
        return self.stack[-1]

    def _pop(self, number: int) -> list[Any]:
        """Removes the topmost values and returns them in the order in which they were pushed."""
        values = self.stack[-number:]
        if len(values) < number or any(value is _MARK for value in values):
            raise IndexError
        del self.stack[-number:]
        return values

    def _items(self) -> list[Any]:
        """Removes and returns everything above the topmost mark, and the mark."""
        items = []
        while (value := self.stack.pop()) is not _MARK:
            items.append(value)
        return items[::-1]

    def _spend(self, operations: int) -> None:
        self._left -= operations
        if self._left < 0:
            raise PickleError(f"the pickle has more than {MAX_OPERATIONS:,} operations")
