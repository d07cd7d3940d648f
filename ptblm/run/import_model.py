"""Imports a model that a PyTorch program saved: writes a run directory with its checkpoint."""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ptblm.checkpoint.format import Checkpoint, current_versions, save_checkpoint
from ptblm.checkpoint.pickle_file import PickleFile, open_pickle_file
from ptblm.checkpoint.pickle_records import ObjectRecord, TensorRecord
from ptblm.checkpoint.pickled_module import PickledModule
from ptblm.config.data import DataConfig, VocabularyConfig
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.corpus.foreign_vocabulary import (
    ForeignVocabulary,
    read_word_list,
    vocabulary_of_examples,
    with_special_tokens,
)
from ptblm.corpus.layout import SPLITS
from ptblm.corpus.splits import CORPUS_NAMES, corpus_name, corpus_path
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError, DataError
from ptblm.files import write_text
from ptblm.json_files import write_json
from ptblm.model.build import build_model
from ptblm.model.interop.pytorch_examples import (
    ForeignModel,
    Kind,
    UnsupportedModelError,
    convert,
    recognize,
)
from ptblm.reporting.environment import describe_environment
from ptblm.run.agreement import remember_agreement
from ptblm.run.directory import RunDirectory, check_available, clear, first_free
from ptblm.run.load_model import model_from_checkpoint
from ptblm.run.lock import lock_run_dir, write_errors
from ptblm.run.memory import memory_errors
from ptblm.training.state import TrainState

logger = logging.getLogger(__name__)

# fp16 weights double in fp32.
_MAX_GROWTH = 4
_MODEL_HINT = (
    "supported are models of PyTorch's word_language_model, neural-complexity and AWD-LSTM, with "
    "LSTM, GRU or RNN layers"
)


@dataclass(frozen=True)
class ImportedModel:
    """The result of an import.

    Attributes:
        directory: the run directory.
        checkpoint: the checkpoint in it.
        config: its config.
        parameters: number of parameters of the model in ptblm.
    """

    directory: RunDirectory
    checkpoint: Checkpoint
    config: Config
    parameters: int


@memory_errors("while importing", hint="use a machine with more memory")
def import_model(
    path: Path,
    *,
    vocabulary_file: Path | None = None,
    corpus: str | None = None,
    kind: Kind | None = None,
    run_dir: Path | None = None,
    overwrite: bool = False,
    command: Sequence[str] = (),
) -> ImportedModel:
    """Writes a run directory with the model of a file of torch.save. Runs nothing of the file.

    Exactly one of `vocabulary_file` and `corpus` is needed.

    Args:
        path: the file.
        vocabulary_file: a list of words, one per line, in the order of their ids.
        corpus: name or directory of the corpus that the model was trained on, if the ids follow
            the rule of PyTorch's example.
        kind: the program that trained the model; None to tell it from the names of the weights.
        run_dir: the run directory; None selects the first of runs/NAME, runs/NAME-2, ... that does
            not exist.
        overwrite: whether to delete an existing run in the directory.
        command: the command line, for environment.json.

    Raises:
        CheckpointError: if the file is not that of a supported model.
        DataError: if the vocabulary cannot be read or does not have the size of the model's.
        UsageError: if the directory cannot be used.
    """
    delete_with = "--overwrite" if overwrite else None
    if run_dir is not None:
        with write_errors(run_dir):
            check_available(run_dir, delete_with=delete_with)
    with open_pickle_file(path) as file:
        try:
            foreign = _recognize(file.module, kind)
        except UnsupportedModelError as error:
            hint = _MODEL_HINT if kind is None else f"omit --format; {_MODEL_HINT}"
            raise CheckpointError(str(error), where=str(path), hint=hint) from None
        words = _vocabulary(vocabulary_file, corpus, foreign.vocab_size)
        config = _config(foreign.config, words, corpus)
        name = "" if corpus is None else corpus_name(corpus)
        checkpoint = _checkpoint(file, foreign, config, words.vocabulary, name)
    model = model_from_checkpoint(checkpoint, config.model, path)
    notes = [*foreign.notes, *words.notes]
    if corpus is not None:
        notes.append(
            "the vocabulary contains the words of the valid and test splits, by the rule of the "
            "program that trained the model"
        )
    for note in notes:
        logger.info(note)
    target = run_dir or first_free(path.stem or "imported")
    with lock_run_dir(target, created=run_dir is None) as directory, write_errors(target):
        check_available(target, delete_with=delete_with)
        clear(directory)
        environment = describe_environment(
            list(command), config.training.seed, checkpoint.computing
        )
        write_json(directory.environment, environment)
        write_text(directory.config, config_document(config))
        save_checkpoint(directory.last, checkpoint)
    if corpus is not None:
        remember_agreement(config)
    return ImportedModel(directory, checkpoint, config, model.parameter_count())


def _recognize(saved: PickledModule, kind: Kind | None) -> ForeignModel:
    """Returns the structure of the model.

    Raises:
        UnsupportedModelError: if it is not supported.
    """
    for other in saved.others:
        if isinstance(other, ObjectRecord) and isinstance(other.state, dict):
            parameters = other.state.get("_parameters")
            if isinstance(parameters, dict) and "tail_vectors" in parameters:
                raise UnsupportedModelError("it has an adaptive softmax")
    shapes = {name: tensor.shape for name, tensor in saved.tensors.items()}
    encoder, decoder = (saved.tensors.get(f"{name}.weight") for name in ("encoder", "decoder"))
    is_tied = encoder is not None and decoder is not None and _same_elements(encoder, decoder)
    return recognize(shapes, saved.attributes, kind, is_tied=is_tied)


def _same_elements(a: TensorRecord, b: TensorRecord) -> bool:
    """Returns whether two tensors of a file are the same part of the same storage."""
    keys = (a.storage.key, b.storage.key)
    return keys[0] == keys[1] and (a.offset, a.shape, a.strides) == (b.offset, b.shape, b.strides)


def _vocabulary(file: Path | None, corpus: str | None, size: int) -> ForeignVocabulary:
    """Returns the vocabulary of the model.

    Raises:
        DataError: if it cannot be read, or has another size than the model's.
    """
    if file is not None:
        where, vocabulary = str(file), read_word_list(file)
        hint = "pass the list of words that was written when this model was trained"
    elif corpus is not None:
        where, vocabulary = corpus, vocabulary_of_examples(DataConfig(path=corpus))
        hint = "pass the exact files that the model was trained on, or its list of words by --vocab"
    else:
        raise ValueError("either vocabulary_file or corpus is needed")
    if len(vocabulary) != size:
        raise DataError(
            f"the vocabulary has {len(vocabulary):,} words, but the model has {size:,}",
            where=where,
            hint=hint,
        )
    return with_special_tokens(vocabulary, where)


def _config(model: ModelConfig, words: ForeignVocabulary, corpus: str | None) -> Config:
    rule = VocabularyConfig(closed=words.vocabulary.unk_id is None, unk=words.unk)
    data = DataConfig(vocabulary=rule)
    if corpus is not None:
        location = corpus if corpus in CORPUS_NAMES else str(corpus_path(corpus, "word").resolve())
        data = data.model_copy(update={"path": location})
    return Config(data=data, model=model)


def _checkpoint(
    file: PickleFile,
    foreign: ForeignModel,
    config: Config,
    vocabulary: Vocabulary,
    corpus: str,
) -> Checkpoint:
    """Returns the checkpoint of a run that has not begun to train.

    Raises:
        CheckpointError: if a tensor cannot be read, is not of floating point or is not finite.
    """
    tensors = file.module.tensors
    needed = [tensors[name] for name in foreign.names()]
    if sum(4 * math.prod(tensor.shape) for tensor in needed) > _MAX_GROWTH * file.size:
        what = "damaged: its tensors are larger than the file"
        raise CheckpointError(what, where=str(file.path))

    def read(name: str) -> Tensor:
        values = file.tensor(tensors[name])
        if not values.is_floating_point():
            what = f"{name} contains {values.dtype}, not weights"
            raise CheckpointError(what, where=str(file.path))
        # A copy, because several tensors can be parts of one storage.
        weights = torch.empty(values.shape).copy_(values)
        if not bool(weights.isfinite().all()):
            what = f"{name} contains values that are not finite in fp32"
            raise CheckpointError(what, where=str(file.path))
        return weights

    with torch.device("meta"):
        model = build_model(config.model, foreign.vocab_size)
    batch_size = config.training.batch_size
    hidden_state = [
        [torch.zeros(batch_size, size) for size in layer.cell.state_sizes]
        for layer in model.recurrent.layers
    ]
    return Checkpoint(
        config=config.model_dump(),
        vocabulary=vocabulary.as_dict(),
        corpus={"name": corpus, "sha256": dict.fromkeys(SPLITS, "")},
        model=convert(foreign, model, read),
        optimizer={},
        hidden_state=hidden_state,
        train_state={**TrainState().as_dict(), "loss_scaler": {}, "averaged": {}},
        metrics_offset=0,
        versions=current_versions(),
        computing={
            "device": "",
            "hardware": "",
            "threads": 0,
            "processes": 1,
            "matmul": "default",
            "kernel": model.recurrent.kernel,
            "cuda_graph": False,
            "cell_source": "",
        },
        imported_from={"file": file.path.name, "sha256": file.sha256, "kind": foreign.kind},
    )
