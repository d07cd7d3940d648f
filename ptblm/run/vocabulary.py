"""Loads the vocabulary that `data.vocabulary.file` names: a text file or a checkpoint."""

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.data import DataConfig
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.corpus.vocabulary_file import read_vocabulary
from ptblm.errors import ConfigError
from ptblm.files import expand_path
from ptblm.run.directory import find_checkpoint


def given_vocabulary(config: DataConfig) -> Vocabulary | None:
    """Returns the vocabulary that the config names; None if it names none.

    Raises:
        CheckpointError: if the file is a checkpoint that cannot be loaded.
        ConfigError: if the checkpoint has another tokenizer.
        DataError: if the file is a text that cannot be read.
    """
    if config.vocabulary.file is None:
        return None
    path = expand_path(config.vocabulary.file)
    if not (path.is_dir() or path.suffix == ".safetensors"):
        return read_vocabulary(path, config)
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
