"""Loads the vocabulary of a checkpoint that `data.vocabulary.file` names."""

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.data import DataConfig
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import ConfigError, DataError
from ptblm.files import os_errors
from ptblm.paths import expand_path
from ptblm.run.directory import find_checkpoint


def checkpoint_vocabulary(config: DataConfig) -> Vocabulary | None:
    """Returns the vocabulary of the checkpoint that the config names.

    Returns:
        The vocabulary, or None if the config names no checkpoint. `load_corpus` reads text files.

    Raises:
        CheckpointError: if the file is a checkpoint that cannot be loaded.
        ConfigError: if the checkpoint has another tokenizer.
        DataError: if the path cannot be read.
    """
    if config.vocabulary.file is None:
        return None
    path = expand_path(config.vocabulary.file)
    with os_errors(DataError, where=path):
        if not (path.is_dir() or path.suffix == ".safetensors"):
            return None
    path = find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    tokenizer = checkpoint.parsed_config().data.tokenizer
    if tokenizer != config.tokenizer:
        raise ConfigError(
            f"data.vocabulary.file: {path} has {tokenizer} tokens, but data.tokenizer is "
            f"{config.tokenizer}",
            hint=f"pass --tokenizer {tokenizer}",
        )
    return checkpoint.parsed_vocabulary()
