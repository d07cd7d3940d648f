"""Writes the hidden states of scored tokens to a NumPy file (.npz) in constant memory.

Shapes: N tokens of a text, S values of a hidden state.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from ptblm.errors import UsageError
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.files import check_output, os_errors, replacing
from ptblm.model.language_model import LanguageModel

# Names of the parts of the states of built-in cells, which have one or two.
_PARTS = ["h", "c"]


def write_states(
    lines: Iterable[ScoredLine], path: Path, model: LanguageModel, inputs: Iterable[Path] = ()
) -> Iterator[ScoredLine]:
    """Yields the lines, and writes a file when all of them have been read.

    The file contains `sentence_id` and `token_id`, [N], as in the table of tokens, and an array for
    each part of the state of each layer, [N, size]: `layer0_h`, `layer0_c`, `layer1_h`, ..., or
    `layer0_part0`, ... for a custom cell. Row i is the state that predicts token i, and NaN if the
    token has no context. The arrays are kept in temporary files in the same directory until their
    length is known.

    Args:
        lines: lines that were scored with `Measures(states=True)`.
        path: the file to replace.
        model: the model.
        inputs: the text and the checkpoint, which must not be replaced.

    Raises:
        UsageError: if the file cannot be written.
    """
    with os_errors(UsageError, "--states: cannot be written", where=path), ExitStack() as stack:
        check_output(path, inputs)
        file = stack.enter_context(replacing(path))

        def array(dtype: str, *shape: int) -> _Array:
            temporary = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            return _Array(temporary, np.dtype(dtype), shape)

        ids = {name: array("<i8") for name in ("sentence_id", "token_id")}
        states = {name: array("<f4", size) for name, size in _state_parts(model)}
        for scored in lines:
            count = len(scored.line.ids)
            ids["sentence_id"].append(np.full(count, scored.line.number))
            ids["token_id"].append(np.arange(1, count + 1))
            start = 0
            for part in states.values():
                part.append(_columns(scored, start, part.shape[0]))
                start += part.shape[0]
            yield scored
        with zipfile.ZipFile(file, "w") as archive:
            for name, each in {**ids, **states}.items():
                entry = zipfile.ZipInfo(f"{name}.npy")
                with archive.open(entry, "w", force_zip64=True) as member:
                    each.copy_to(member)


def _state_parts(model: LanguageModel) -> Iterator[tuple[str, int]]:
    """Yields the name and the size of each part of the state of each layer."""
    for index, layer in enumerate(model.recurrent.layers):
        sizes = layer.cell.state_sizes
        is_built_in = type(layer.cell).__module__.startswith("ptblm.")
        names = _PARTS if is_built_in else [f"part{k}" for k in range(len(sizes))]
        yield from zip((f"layer{index}_{name}" for name in names), sizes, strict=False)


def _columns(scored: ScoredLine, start: int, size: int) -> NDArray[np.float32]:
    if scored.scores.states is None:
        raise ValueError("the states were not computed")
    return scored.scores.states[:, start : start + size]


@dataclass
class _Array:
    """An array that grows by rows, in a temporary file."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()  # of a row
    rows: int = field(default=0)

    def append(self, rows: NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self.rows += len(rows)

    def copy_to(self, file: IO[bytes]) -> None:
        """Writes the array in the format of `numpy.save`."""
        header = {
            "descr": dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        write_array_header_1_0(file, header)
        self.file.seek(0)
        shutil.copyfileobj(self.file, file)
