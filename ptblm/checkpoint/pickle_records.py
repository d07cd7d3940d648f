"""What a pickle of a PyTorch model may name, and the inert records that stand for it."""

import re
from dataclasses import dataclass
from typing import Any

import torch

# Types of storages. Files of GPU models name them in torch.cuda.
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DTYPES = "float32 float64 float16 bfloat16 float double half int64 int32 int16 int8 uint8 bool"

# Nothing of this is imported. The names are restricted so that a file with any other content is
# reported instead of being read in part.
_ALLOWED = re.compile(
    r"collections\.(OrderedDict|defaultdict)"
    # What training scripts store next to the weights: settings, and results of NumPy.
    r"|argparse\.Namespace|numpy\.dtype|numpy\.(_?core\.)?multiarray\.scalar|_codecs\.encode"
    r"|(builtins|__builtin__)\.(set|frozenset|dict|list|tuple|int|float|bool|object|getattr)"
    r"|torch\.(Size|device|Tensor|nn\.parameter\.Parameter|autograd\.variable\.Variable"
    rf"|{'|'.join(_DTYPES.split())}"
    rf"|(cuda\.)?({'|'.join(_STORAGES)}|(Float|Double|Half|Long)Tensor)"
    r"|_utils\._rebuild_(tensor|tensor_v2|parameter|parameter_with_state)"
    r"|_tensor\._rebuild_from_type_v2"
    r"|nn\.modules\.\w+\.\w+|nn\.parallel\.data_parallel\.DataParallel|optim\.\w+\.\w+"
    r"|nn\.backends\.thnn\.\w+|backends\.cudnn\.rnn\.\w+)"
    # The classes of the models, in any module.
    r"|[\w.]+\.(RNNModel|WeightDrop|LockedDropout|SplitCrossEntropyLoss)"
)
# The model of AWD-LSTM contains one of its own methods, which is pickled as a call of getattr.
_AWD_METHOD = "widget_demagnetizer_y2k_edition"
_RESAVE = "save only its weights with `torch.save(model.state_dict(), FILE)`, and import that file"


class PickleError(Exception):
    """The pickle is damaged, or contains more than a model; the message describes the problem.

    Attributes:
        hint: what to do, or None.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, eq=False)
class ClassName:
    """The name of a class or function, such as "torch.nn.modules.rnn.LSTM"."""

    name: str


@dataclass(eq=False)
class ObjectRecord:
    """An object: the name of its class or of the function that makes it, and its state."""

    name: str
    state: Any = None


@dataclass(frozen=True, eq=False)
class StorageRecord:
    """A storage of a file.

    Attributes:
        key: name of the storage in the file.
        dtype: type of the elements.
        size: number of elements of the whole storage.
        view: first element and number of elements, if only a part is used; otherwise None.
    """

    key: str
    dtype: torch.dtype
    size: int
    view: tuple[int, int] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the whole storage in bytes."""
        return self.size * self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """A tensor: where its elements are in a storage.

    Attributes:
        storage: the storage.
        offset: index of the first element.
        shape: sizes of the dimensions.
        strides: distance of neighbors in each dimension, in elements.
    """

    storage: StorageRecord
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def checked_name(module: Any, attribute: Any) -> ClassName:
    """Returns the name of a class or function.

    Raises:
        PickleError: if a model does not need it.
    """
    name = f"{module}.{attribute}"
    if not isinstance(module, str) or not isinstance(attribute, str) or len(name) > 200:
        raise PickleError("damaged: the pickle names something without a name")
    if not _ALLOWED.fullmatch(name):
        raise PickleError(
            f"it names {name}, which the model of a supported kind does not need; nothing was run",
            hint=f"if you trust the file and have its code: {_RESAVE}",
        )
    return ClassName(name)


def call(name: str, arguments: tuple[Any, ...]) -> Any:
    """Returns what stands for the result of a call.

    Args:
        name: the function or class, which `checked_name` has accepted.
        arguments: its arguments.

    Returns:
        A record, a scalar or a tuple; for a dict, the list of its items.

    Raises:
        PickleError: if the arguments are not those of a model.
    """
    first = arguments[0] if arguments else None
    match name.rpartition(".")[2]:
        case "getattr":
            if not (isinstance(first, ObjectRecord) and arguments[1:] == (_AWD_METHOD,)):
                raise PickleError("it calls getattr; nothing was run")
        case "_rebuild_tensor" | "_rebuild_tensor_v2":
            return _tensor(*arguments[:4])
        case "_rebuild_parameter" | "_rebuild_parameter_with_state":
            return first
        case "Parameter" | "Variable" if arguments:  # torch before 0.4
            return first
        case "_rebuild_from_type_v2" if len(arguments) == 4 and isinstance(first, ClassName):
            inner = arguments[2]
            if first.name.startswith("torch._utils.") and isinstance(inner, tuple):
                return call(first.name, inner)
        case "OrderedDict" | "dict":
            return first if isinstance(first, list) else []
        case "defaultdict":
            return []
        case "Size" if isinstance(first, tuple):
            return first
    return ObjectRecord(name)


def storage(identifier: Any) -> Any:
    """Returns what a persistent id of torch stands for: a storage, or a class with its source.

    Raises:
        PickleError: if it is neither.
    """
    match identifier:
        case ("module", ClassName() as name, *_):
            return name
        case ("storage", ClassName(name), str(key), _, int(size), *view):
            dtype = _STORAGES.get(name.rpartition(".")[2])
            if dtype is not None and _is_size(size):
                return StorageRecord(key, dtype, size, _view(view))
    raise PickleError("damaged: the pickle refers to an unknown kind of storage")


def _view(view: list[Any]) -> tuple[int, int] | None:
    match view:
        case [] | [None]:
            return None
        case [(_, int(offset), int(size))] if _is_size(offset) and _is_size(size):
            return offset, size
    raise PickleError("damaged: the part of a storage is not a range")


def _tensor(
    storage: Any = None, offset: Any = None, shape: Any = None, strides: Any = None
) -> TensorRecord:
    """Checks that a tensor lies within its storage, so that it takes no more memory.

    Raises:
        PickleError: if it does not.
    """
    sizes = (shape, strides)
    if (
        not isinstance(storage, StorageRecord)
        or not all(isinstance(each, tuple) and all(map(_is_size, each)) for each in sizes)
        or not _is_size(offset)
        or not len(shape) == len(strides) <= 8
    ):
        raise PickleError("damaged: a tensor has no valid shape")
    start, available = storage.view or (0, storage.size)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    elements = 1
    for size in shape:
        elements *= size
    if elements and (elements > available or last >= available):
        raise PickleError("damaged: a tensor is larger than its storage")
    if start + available > storage.size:
        raise PickleError("damaged: the part of a storage is larger than the storage")
    return TensorRecord(storage, offset + start, shape, strides)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48
