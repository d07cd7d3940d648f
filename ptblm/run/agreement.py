"""The user's agreement to what a checkpoint names: a custom cell, and the path of a corpus."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from ptblm import consent
from ptblm.config.data import DataConfig
from ptblm.config.overrides import parse_overrides
from ptblm.config.schema import Config
from ptblm.corpus.splits import CORPUS_NAMES, PIPE_HINT, is_pipe_name
from ptblm.errors import CheckpointError, DataError, UsageError
from ptblm.model.build import is_custom_cell
from ptblm.model.cells.custom import remember_cell
from ptblm.paths import shell_join

_KINDS: dict[tuple[str | int, ...], consent.Kind] = {
    ("model", "cell"): "cell",
    ("model", "cell", "type"): "cell",
    ("data", "path"): "corpus",
}


def allow_typed(overrides: Sequence[str] = (), flags: Mapping[str, object] | None = None) -> None:
    """Allows the cell and the corpus that the user typed on the command line.

    Args:
        overrides: arguments of --set.
        flags: values of dedicated options by key, such as "data.path"; None if not passed.
    """
    for override in parse_overrides(overrides, flags or {}, problems=[]):
        kind = _KINDS.get(override.path)
        if kind is not None:
            consent.allow(kind, str(override.value))


def check_corpus(config: DataConfig, path: Path) -> None:
    """Checks that the corpus that a checkpoint names may be read.

    Args:
        config: the data config of the checkpoint.
        path: the checkpoint file.

    Raises:
        CheckpointError: if the user neither typed the path of the corpus nor has trained with it.
        DataError: if the corpus was a pipe.
    """
    name = config.path
    if name in CORPUS_NAMES or consent.is_allowed("corpus", name):
        return
    if is_pipe_name(name):
        raise DataError("the text of the run is not in a file", where=name, hint=PIPE_HINT)
    if not consent.is_remembered("corpus", name):
        raise CheckpointError(
            f"the checkpoint names a corpus that you have not trained with: {name}",
            where=str(path),
            hint=f"pass {shell_join(['--data', name])} to read it, or the path of another text",
        )


def check_known_corpus(name: str, path: Path, options: str) -> None:
    """Checks that the corpus of a checkpoint is known. That of an imported model may not be.

    Args:
        name: name of the corpus in the checkpoint.
        path: the checkpoint file.
        options: the options that name another text.

    Raises:
        UsageError: if it is unknown.
    """
    if not name:
        raise UsageError(
            "the corpus of an imported model is unknown", where=str(path), hint=f"pass {options}"
        )


def remember_agreement(config: Config) -> None:
    """Records that the user has trained with the cell and the corpus of a run.

    The path of a pipe, such as /dev/stdin, is not recorded: it can be anything the next time.
    """
    if is_custom_cell(config.model):
        remember_cell(config.model.cell.type)
    path = config.data.path
    if path not in CORPUS_NAMES and (os.path.isdir(path) or os.path.isfile(path)):
        consent.remember("corpus", path)
