"""Starts a new run from the weights and the vocabulary of a checkpoint (`--init`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptblm.checkpoint.format import Checkpoint, load_checkpoint
from ptblm.config.data import VocabularyConfig
from ptblm.config.differences import config_differences
from ptblm.config.dropout import DropoutConfig
from ptblm.config.loading import load_config, override_config
from ptblm.config.run import RunConfig
from ptblm.config.schema import Config
from ptblm.errors import ConfigError
from ptblm.model.build import is_custom_cell
from ptblm.model.cells.custom import load_cell_class
from ptblm.paths import expand_path
from ptblm.run.agreement import check_corpus, check_known_corpus
from ptblm.run.directory import find_checkpoint
from ptblm.run.load_model import check_finite_tensors, custom_cell_error

# Keys of the model that do not change the function that the weights compute.
_FREE_KEYS = {
    *(f"model.dropout.{name}" for name in DropoutConfig.model_fields),
    *("model.head.dropout", "model.initializer", "model.init_scale", "model.softmax_bias"),
}
# Options of built-in cells that only initialize weights. Those of a custom cell can be anything.
_INITIAL_OPTIONS = {"model.cell.chrono_steps", "model.cell.highway_bias"}


@dataclass(frozen=True)
class InitialModel:
    """The checkpoint that a new run starts from.

    Attributes:
        path: the checkpoint file.
        checkpoint: its content.
        config: the config of the new run.
    """

    path: Path
    checkpoint: Checkpoint
    config: Config

    @property
    def name(self) -> str:
        """The name of the run that the checkpoint belongs to, or of the file."""
        parent = self.path.absolute().parent
        return parent.parent.name if parent.name == "checkpoints" else self.path.stem

    def __str__(self) -> str:
        """Returns the path and the number of completed epochs."""
        return f"{self.path}, epoch {self.checkpoint.trained()[0]}"


def load_initial_model(
    path: Path,
    source: str | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> InitialModel:
    """Loads the checkpoint that a new run starts from, and makes the config of the run.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        source: config of the new run, see `load_config`; None for the config of the checkpoint.
        overrides: see `load_config`.
        flags: see `load_config`.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        ConfigError: if the config is not valid, or the checkpoint does not fit it.
        UsageError: if the corpus of an imported model is not known.
    """
    path = find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    trained = checkpoint.parsed_config()
    check_finite_tensors(checkpoint.evaluated_weights, checkpoint.weights_name, path)
    if source is None:
        new_data = bool((flags or {}).get("data.path")) or any(
            override.strip().startswith("data.path") for override in overrides
        )
        base = _config_for_a_new_run(trained, new_data=new_data)
        config = override_config(base, overrides, flags)
        if not new_data:
            check_known_corpus(checkpoint.corpus["name"], path, "--data")
        check_corpus(config.data, path)
        if is_custom_cell(config.model):
            try:
                load_cell_class(config.model.cell.type)
            except ConfigError as error:
                raise custom_cell_error(error, path) from None
    else:
        config = load_config(source, overrides, flags)
    _check_fits(trained, config, path)
    return InitialModel(path, checkpoint, _with_vocabulary_of(path, config))


def _config_for_a_new_run(trained: Config, *, new_data: bool) -> Config:
    """Returns the config of a checkpoint without its `run` section and its vocabulary.

    The encoding and the form of the training text do not apply to another text.
    """
    changes: dict[str, object] = {
        "vocabulary": VocabularyConfig(
            unk=trained.data.vocabulary.unk, closed=trained.data.vocabulary.closed
        )
    }
    if new_data:
        changes |= {"encoding": None, "format": "auto"}
    data = trained.data.model_copy(update=changes)
    return trained.model_copy(update={"data": data, "run": RunConfig()})


def _check_fits(trained: Config, config: Config, path: Path) -> None:
    """Checks that the weights and the vocabulary of a checkpoint can be used with a config.

    Raises:
        ConfigError: with every key that differs.
    """
    free = _FREE_KEYS if is_custom_cell(config.model) else _FREE_KEYS | _INITIAL_OPTIONS
    if _embedding_size(trained) == _embedding_size(config):
        free = free | {"model.embedding_size"}
    if trained.model.units == config.model.units:
        free = free | {"model.layer_sizes"}
    keys = [
        difference
        for difference in config_differences(trained, config)
        if difference[0] == "data.tokenizer"
        or (difference[0].startswith("model.") and difference[0] not in free)
    ]
    problems = [f"{key}: is {new!r}, but the checkpoint has {old!r}" for key, old, new in keys]
    if problems:
        raise ConfigError(
            problems,
            where=str(path),
            hint="a new run needs the model of its initial weights; omit --config to use it",
        )
    vocabulary = config.data.vocabulary
    given: dict[str, object] = {"min_count": vocabulary.min_count, "size": vocabulary.size}
    if vocabulary.file is not None and expand_path(vocabulary.file).absolute() != path.absolute():
        given["file"] = vocabulary.file
    for key, value in given.items():
        if value is not None:
            raise ConfigError(
                f"data.vocabulary.{key}: cannot be combined with --init, which takes the "
                "vocabulary of the checkpoint",
                where=str(path),
                hint=f"omit data.vocabulary.{key}",
            )


def _embedding_size(config: Config) -> int:
    return config.model.embedding_size or config.model.hidden_size


def _with_vocabulary_of(path: Path, config: Config) -> Config:
    """Returns a config that names the checkpoint as vocabulary; bytes need none."""
    if config.data.tokenizer == "byte":
        return config
    return override_config(config, [], {"data.vocabulary.file": str(path.absolute())})
