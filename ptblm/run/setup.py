"""Puts a run together from its config: corpus, model, precision, trainer."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from ptblm.backend.allocator import keep_freed_memory
from ptblm.backend.device import can_compile, select_device
from ptblm.backend.matmul import MatmulBackend, select_matmul_backend
from ptblm.backend.precision import Precision, use_deterministic_kernels
from ptblm.backend.randomness import derive_seed, make_generator, seed_global_generator
from ptblm.checkpoint.format import Checkpoint
from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.config.loading import override_config
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.splits import corpus_path
from ptblm.errors import CheckpointError
from ptblm.model.build import build_model, is_custom_cell
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.training.cuda_graph import capture_on_cuda
from ptblm.training.trainer import Trainer


@dataclass(frozen=True)
class RunComponents:
    """The parts of a run.

    Attributes:
        config: what they were made from.
        corpus: the text.
        trainer: with its model, at the start of the run.
        device: a phrase that says what the run computes on, and why.
        products: who computes its fp32 products.
    """

    config: Config
    corpus: Corpus
    trainer: Trainer
    device: str
    products: MatmulBackend


def setup_run(config: Config, products_before: MatmulBackend | None = None) -> RunComponents:
    """Makes all parts of a run.

    Args:
        config: of the run.
        products_before: who has computed its fp32 products so far; None for a new run.

    Raises:
        UsageError: if the device or its precision is not to be had.
        ConfigError: if the corpus's whole path is no UTF-8, in which configs are written.
        DataError: if the corpus is missing, damaged or too short.
    """
    training, run = config.training, config.run
    # What fails fast comes first.
    selected = select_device(run.device)
    device, description = selected.device, str(selected)
    if run.deterministic and device.type == "cuda":
        use_deterministic_kernels()
    precision = Precision(run.precision, device)
    if run.fused:
        keep_freed_memory()
    before: MatmulBackend | None = products_before if run.fused else "default"
    products = select_matmul_backend(device, before)
    config = _anchored(config)
    corpus = load_corpus(config.data.path, config.data.tokenizer)
    cut = {
        split: batchify(corpus.splits[split].ids, training.batch_size, training.num_steps, split)
        for split in ("train", "valid")
    }
    # The test split is one stream of single steps: all of its tokens but the first are targets.
    test = batchify(corpus.splits["test"].ids, 1, 1, "test")
    # An own cell may draw its constants, or dropout of its own, from torch's global generator.
    seed_global_generator(device, derive_seed(training.seed, "own cell"))
    model = build_model(config.model, len(corpus.vocabulary), fused=run.fused)
    initializer = Initializer(config.model.initializer, config.model.init_scale)
    model.initialize(initializer, make_generator(training.seed, "initial weights"))
    if run.fused and can_compile(device):
        with precision.autocast():  # else it would be compiled anew for these
            model.to(device).recurrent.compile_steps(training.batch_size)
    trainer = Trainer(
        model.to(device),
        training,
        precision,
        train=cut["train"],
        valid=cut["valid"],
        test=test,
        special_ids=corpus.tokenizer.special_ids,
        log_every=run.log_every,
        capture=capture_on_cuda if device.type == "cuda" and run.fused else None,
    )
    return RunComponents(config, corpus, trainer, description, products)


def _anchored(config: Config) -> Config:
    """With the corpus's path absolute, so that a run resumes from wherever one stands."""
    path = config.data.path
    if path == "sample":
        return config
    absolute = str(corpus_path(path, config.data.tokenizer).resolve())
    return override_config(config, [], {"data.path": absolute})


def trained_model(
    config: ModelConfig, checkpoint: Checkpoint, path: Path, *, fused: bool = True
) -> LanguageModel:
    """The model of a checkpoint, whose config is `config` and whose file is `path`.

    With `fused`, layers and head use fused kernels.

    A config may declare any size. On the meta device a model of that size costs nothing, so
    memory is only ever spent on weights that are there. A cell of the user's own is built for
    real, since it may do what can't be done there.

    Raises:
        CheckpointError: if weights and config do not fit.
    """
    with nullcontext() if is_custom_cell(config) else torch.device("meta"):
        model = build_model(config, len(checkpoint.vocabulary["tokens"]), fused=fused)
    weights = checkpoint.model
    try:
        check_structure(model.state_dict(), weights, "model")
    except StructureMismatchError as error:
        raise CheckpointError(
            f"the checkpoint does not fit its own config: {error}", where=str(path)
        ) from None
    # A copy: torch notes "assign" inside the dict that it is given, and a later load of the same
    # dict into a model whose parameters an optimizer holds would then replace these.
    model.load_state_dict(dict(weights), assign=True)
    return model
