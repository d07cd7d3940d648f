"""Evaluates a checkpoint on a split of a corpus or on a text file."""

import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ptblm import consent
from ptblm.backend.device import SelectedDevice
from ptblm.backend.matmul import MatmulBackend
from ptblm.config.data import DataConfig
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.layout import Split
from ptblm.corpus.preparing import notes, prepare_text
from ptblm.corpus.reader import EncodedText, read_text
from ptblm.corpus.source import Source, read_content, read_file
from ptblm.corpus.splits import corpus_name, locate_corpus, prepare_splits, shadowed_note
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.unknown_tokens import MAX_SHARE, unknown_tokens_note
from ptblm.errors import CheckpointError, ConfigError, UsageError
from ptblm.evaluation.evaluate import PROTOCOL, evaluate
from ptblm.evaluation.score import Score
from ptblm.paths import expand_path, shell_join
from ptblm.progress_bar import ProgressBar
from ptblm.run.agreement import check_corpus, check_known_corpus
from ptblm.run.load_model import LoadedModel, load_model
from ptblm.run.memory import memory_errors

# Keys that describe the text and not the model.
OVERRIDABLE = ("data.encoding", "data.format", "data.marks", "data.vocabulary.unk")


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a checkpoint on a text.

    Attributes:
        checkpoint: the checkpoint file.
        epochs: completed epochs of the checkpoint.
        steps: completed steps of the checkpoint.
        text: name of the text in the output.
        unit: name of a token: "word", "character" or "byte".
        score: the score.
        unknown: tokens of the text that are not in the vocabulary.
        notes: remarks about the text, one line each.
        entropy_bound: the lowest possible expected perplexity, if known.
        device: the device of the computation.
        matmul: the library that computed matrix multiplications.
        protocol: description of the evaluation protocol.
    """

    checkpoint: Path
    epochs: int
    steps: int
    text: str
    unit: str
    score: Score
    unknown: int
    notes: list[str]
    entropy_bound: float | None
    device: SelectedDevice
    matmul: MatmulBackend
    protocol: str


@memory_errors(
    "during evaluation",
    hint="pass --device cpu or a shorter text, or use a machine with more memory",
)
def evaluate_checkpoint(
    path: Path,
    *,
    split: Split | None = None,
    data: str | None = None,
    text: str | None = None,
    cell: str | None = None,
    overrides: Sequence[str] = (),
    device_name: str = "auto",
    show_progress: bool = False,
) -> Evaluation:
    """Evaluates a checkpoint.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        split: split of the corpus; None selects the test split.
        data: the corpus; None selects the corpus of the run.
        text: a file to evaluate on instead of a corpus; "-" reads standard input.
        cell: the custom cell of the checkpoint, which the caller agrees to run.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        ConfigError: if an override is not valid.
        DataError: if the text cannot be read or is too short.
        UsageError: if the device is not available or memory runs out.
    """
    if cell is not None:
        consent.allow("cell", cell)
    loaded = load_model(path, device_name)
    if cell not in (None, loaded.config.model.cell.type):
        raise UsageError(f"--cell {cell}: the checkpoint has {loaded.config.model.cell.type}")
    config = _data_config(loaded.config.data, data, text, overrides)
    if text is None and data is None:
        check_known_corpus(loaded.corpus, loaded.path, "--data or --text")
        check_corpus(config, loaded.path)
    encoded, name, bound, text_notes = _read(loaded, config, split or "test", text)
    score = _score(loaded, encoded, name, show_progress=show_progress)
    if not math.isfinite(score.nll) or not math.isfinite(score.perplexity):
        best = loaded.path.with_name("best.safetensors")
        raise CheckpointError(
            "the weights give no finite perplexity",
            where=str(loaded.path),
            hint=shell_join(["ptblm", "eval", str(best)])
            if best != loaded.path and best.is_file()
            else "use another checkpoint",
        )
    return Evaluation(
        checkpoint=loaded.path,
        epochs=loaded.epochs,
        steps=loaded.steps,
        text=name,
        unit=loaded.tokenizer.unit,
        score=score,
        unknown=encoded.unknown,
        notes=text_notes,
        entropy_bound=bound,
        device=loaded.device,
        matmul=loaded.matmul,
        protocol=PROTOCOL.format(initial_state=loaded.config.model.initial_state),
    )


def _data_config(
    trained: DataConfig, data: str | None, text: str | None, overrides: Sequence[str]
) -> DataConfig:
    """Returns the config of the text to evaluate on.

    The encoding and the form of the training text do not apply to another text.

    Raises:
        ConfigError: if an override is not valid, or would change the tokens.
    """
    wrong = [each for each in overrides if not each.strip().startswith(OVERRIDABLE)]
    if wrong:
        raise ConfigError(
            f"--set {wrong[0]}: evaluation can only change {', '.join(OVERRIDABLE)}",
            hint="the rest of the config belongs to the trained model",
        )
    flags: dict[str, object] = {"data.path": data}
    if data is not None or text is not None:
        form = "raw" if trained.format == "raw" else "auto"
        trained = trained.model_copy(update={"encoding": None, "format": form})
    return override_config(Config(data=trained), overrides, flags).data


def _read(
    loaded: LoadedModel, config: DataConfig, split: Split, text: str | None
) -> tuple[EncodedText, str, float | None, list[str]]:
    """Returns the text to evaluate on, its name, its entropy bound if known, and notes."""
    tokenizer = loaded.tokenizer
    if text is not None:
        as_is = config.format == "raw"
        raw = (
            read_content(sys.stdin.buffer.read(), "standard input", as_is=as_is)
            if text == "-"
            else read_file(expand_path(text), as_is=as_is)
        )
        prepared = prepare_text(raw, config)
        encoded = read_text(prepared.source, tokenizer)
        lines = notes([prepared], config) + _warnings(prepared.source, tokenizer, encoded)
        return encoded, raw.name, None, lines
    corpus = locate_corpus(config, [split])
    texts = prepare_splits(corpus, config)
    source = texts.sources[split]
    encoded = read_text(source, tokenizer)
    bound = read_entropy_bound(corpus.location, tokenizer.name, split, encoded.sha256)
    rule = "" if texts.rule is None else f", {texts.rule}"
    name = f"{split} split of {corpus_name(config.path)}{rule}"
    shadowed = shadowed_note(config.path)
    lines = [] if shadowed is None else [shadowed]
    return encoded, name, bound, lines + texts.notes + _warnings(source, tokenizer, encoded)


def _warnings(source: Source, tokenizer: Tokenizer, text: EncodedText) -> list[str]:
    """Returns a warning if many tokens of the text are unknown."""
    if text.unknown <= MAX_SHARE * len(text.ids):
        return []
    return [unknown_tokens_note(source, tokenizer, text.unknown, len(text.ids))]


def _score(loaded: LoadedModel, text: EncodedText, name: str, *, show_progress: bool) -> Score:
    score, total = Score(), len(text.ids) - 1
    with ProgressBar(total) if show_progress else nullcontext() as bar:
        for score in evaluate(loaded.model, loaded.tokenizer, text):
            if bar is not None:
                share = f"{score.tokens / total:.0%}"
                bar.show(score.tokens, [name, f"perplexity {score.perplexity:.2f}", share])
    return score
