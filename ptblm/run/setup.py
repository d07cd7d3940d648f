"""Sets up a run from its config: device, corpus, model, trainer."""

import hashlib
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ptblm.backend.allocator import keep_freed_memory
from ptblm.backend.device import SelectedDevice, can_compile, select_device
from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.backend.matmul import MatmulBackend, select_matmul_backend
from ptblm.backend.precision import Precision, use_deterministic_kernels
from ptblm.backend.randomness import derive_seed, make_generator, seed_global_generator
from ptblm.checkpoint.format import current_versions
from ptblm.checkpoint.structure import StructureMismatchError
from ptblm.config.differences import config_values
from ptblm.config.heads import AdaptiveConfig
from ptblm.config.loading import override_config
from ptblm.config.model import ModelConfig
from ptblm.config.schema import Config
from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.layout import SPLITS, Split
from ptblm.corpus.splits import corpus_path
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError, UsageError
from ptblm.model.build import build_model, is_custom_cell
from ptblm.model.cells.custom import source_hash
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.paths import expand_path
from ptblm.run.initial import InitialModel
from ptblm.run.load_model import load_weights
from ptblm.run.processes import check_same, errors_of_all, raise_once
from ptblm.run.vocabulary import checkpoint_vocabulary
from ptblm.training.cuda_graph import Capture, capture_on_cuda
from ptblm.training.trainer import Trainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunComponents:
    """The components of a run.

    Attributes:
        config: the config of the run, with absolute paths of the corpus and the vocabulary.
        corpus: the text.
        trainer: the trainer with its model, at the start of the run.
        device: the device of the run.
        matmul: the library that computes fp32 matrix multiplications.
        initial: the checkpoint with the initial weights of a new run, if any.
    """

    config: Config
    corpus: Corpus
    trainer: Trainer
    device: SelectedDevice
    matmul: MatmulBackend
    initial: InitialModel | None = None

    def corpus_hashes(self) -> dict[Split, str]:
        """Returns the SHA-256 of the bytes of each split; "" for a split that does not exist."""
        return {split: self.corpus.sha256().get(split, "") for split in SPLITS}

    def computing(self) -> dict[str, Any]:
        """Returns the hardware and software that affect rounding, except config and versions.

        The values are stored in checkpoints and environment.json, and compared when a run is
        resumed.
        """
        is_custom = is_custom_cell(self.config.model)
        return {
            "device": str(self.device.device),
            "hardware": self.device.hardware,
            "threads": self.device.threads,
            "processes": self.trainer.world.size,
            "matmul": self.matmul,
            "kernel": self.trainer.model.recurrent.kernel,
            "cuda_graph": self.trainer.graphed_step is not None,
            "cell_source": source_hash(self.config.model.cell.type)[:12] if is_custom else "",
        }


def setup_run(
    config: Config,
    previous_matmul: MatmulBackend | None = None,
    vocabulary: Vocabulary | None = None,
    initial: InitialModel | None = None,
    world: World = ONE_PROCESS,
) -> RunComponents:
    """Creates all components of a run, in each of its processes.

    Args:
        config: the config of the run.
        previous_matmul: the library that the run used on a CPU so far; None for a new run.
        vocabulary: the vocabulary of the run so far; None to build it, or to load the one that the
            config names.
        initial: the checkpoint with the initial weights of a new run; None for random weights.
        world: the processes of the run.

    Raises:
        CheckpointError: if the initial weights do not fit the model, or the vocabulary is that of a
            checkpoint that cannot be loaded.
        UsageError: if the device or the precision is not available.
        ConfigError: if an absolute path is not valid UTF-8, or the checkpoint of the vocabulary has
            another tokenizer.
        DataError: if the corpus is missing, damaged or too short.
    """
    training, run = config.training, config.run
    with errors_of_all(world):
        # Checks that fail quickly come first.
        if training.batch_size < world.size:
            raise UsageError(
                f"training.batch_size is {training.batch_size}, less than the {world.size} "
                "processes",
                hint="start fewer processes, or use a larger training.batch_size",
            )
        selected = select_device(run.device)
        device = selected.device
        if run.deterministic and device.type == "cuda":
            use_deterministic_kernels()
        precision = Precision(run.precision, device)
        if run.fused:
            keep_freed_memory()
        matmul = select_matmul_backend(device, previous_matmul if run.fused else "default")
        config = _with_absolute_paths(config)
        corpus = load_corpus(config.data, vocabulary or checkpoint_vocabulary(config.data))
        splits = {split: text.ids for split, text in corpus.splits.items()}
        batches = batchify(splits["train"], training.batch_size, training.num_steps, "train")
        model = _initialized_model(config, corpus, device, initial)
    if world.size > 1:
        _check_same_run(world, config, corpus, model)
    model.to(device)
    if run.fused and can_compile(device):
        rows = world.rows(training.batch_size)
        with precision.autocast():  # a different type would trigger a recompilation
            model.recurrent.compile_steps(rows.stop - rows.start)
    trainer = Trainer(
        model,
        training,
        precision,
        train=batches,
        valid=splits["valid"],
        test=splits.get("test") if run.test else None,
        special_ids=corpus.tokenizer.special_ids,
        log_every=run.log_every,
        sync_at=[-(-tokens // batches.tokens) for tokens in run.keep_at or []],
        capture=_capture(config, device),
        world=world,
    )
    return RunComponents(config, corpus, trainer, selected, matmul, initial)


def _initialized_model(
    config: Config, corpus: Corpus, device: torch.device, initial: InitialModel | None
) -> LanguageModel:
    """Returns the model with its initial weights, on the CPU."""
    seed = config.training.seed
    # A custom cell may use the global generator of torch, for constants or dropout.
    seed_global_generator(device, derive_seed(seed, "custom cell"))
    model = build_model(config.model, len(corpus.vocabulary), fused=config.run.fused)
    initializer = Initializer(config.model.initializer, config.model.init_scale)
    model.initialize(initializer, make_generator(seed, "initial weights"))
    if config.model.softmax_bias != "uniform":
        model.head.set_bias(_softmax_bias(config.model, corpus.vocabulary, model.head.bias))
    if initial is not None:
        _load_initial_weights(model, initial)
    return model


def _check_same_run(world: World, config: Config, corpus: Corpus, model: LanguageModel) -> None:
    """Checks that all processes have the same config, texts, versions and initial weights."""
    facts = {key: v for key, v in config_values(config).items() if key not in _LOCAL_KEYS}
    facts |= {f"the version of {name}": value for name, value in current_versions().items()}
    if is_custom_cell(config.model):
        facts["the source file of the cell"] = source_hash(config.model.cell.type)[:12]
    texts = {f"the {split} split": digest for split, digest in corpus.sha256().items()}
    tokens = "\n".join(corpus.vocabulary.tokens).encode(errors="surrogatepass")
    texts["the vocabulary"] = hashlib.sha256(tokens).hexdigest()
    check_same(world, facts, texts)
    if not world.are_equal(model.parameters()):
        message = "the initial weights are not the same in all processes"
        hint = "give all processes the same checkpoint for --init, and the same --seed"
        raise_once(world, UsageError(message, hint=hint))


# Keys of paths, which can differ between machines. The content of the files is compared instead.
_LOCAL_KEYS = {"data.path", "data.vocabulary.file"}


def _capture(config: Config, device: torch.device) -> Capture | None:
    """Returns the function that captures a step; None for eager steps."""
    if not config.run.fused or device.type != "cuda":
        return None
    if config.training.random_num_steps:
        logger.warning(
            "training.random_num_steps runs steps without a CUDA graph, because their shapes differ"
        )
        return None
    if isinstance(config.model.head, AdaptiveConfig):
        logger.warning(
            "model.head adaptive runs steps without a CUDA graph, because the number of targets in "
            "each cluster differs between steps"
        )
        return None
    return capture_on_cuda


def _softmax_bias(config: ModelConfig, vocabulary: Vocabulary, like: Tensor) -> Tensor:
    """Returns the initial bias of the softmax in the shape of `like`: zeros or log_unigram.

    With the log of the relative frequencies, a model starts as a unigram model. A token that the
    training split lacks counts as half an occurrence.
    """
    if config.softmax_bias == "zeros":
        return torch.zeros_like(like)
    counts = torch.tensor(vocabulary.counts, dtype=torch.float64).clamp(min=0.5)
    return (counts / counts.sum()).log().float()


def _load_initial_weights(model: LanguageModel, initial: InitialModel) -> None:
    try:
        load_weights(model, initial.checkpoint)
    except StructureMismatchError as error:
        raise CheckpointError(
            f"its weights do not fit the model: {error}", where=str(initial.path)
        ) from None


def with_absolute_vocabulary_path(config: Config) -> Config:
    """Makes `data.vocabulary.file` absolute.

    Raises:
        ConfigError: if the absolute path is not valid UTF-8.
    """
    file = config.data.vocabulary.file
    if file is None:
        return config
    return override_config(config, [], {"data.vocabulary.file": str(expand_path(file).absolute())})


def _with_absolute_paths(config: Config) -> Config:
    """Makes paths in the config absolute, so that a run can be resumed from any directory."""
    config = with_absolute_vocabulary_path(config)
    location = corpus_path(config.data.path, config.data.tokenizer)
    # The embedded corpus moves with ptblm, and a pipe has no lasting path.
    if config.data.path != "sample" and (location.is_dir() or location.is_file()):
        return override_config(config, [], {"data.path": os.path.realpath(location)})
    return config
