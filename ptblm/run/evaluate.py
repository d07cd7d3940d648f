"""Evaluates a checkpoint on a split of a corpus or on a text file."""

import math
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ptblm.backend.device import SelectedDevice
from ptblm.backend.matmul import MatmulBackend
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.reader import EncodedText, read_text
from ptblm.corpus.source import bytes_source, read_file
from ptblm.corpus.splits import Split, corpus_name, read_splits, split_rule
from ptblm.errors import CheckpointError
from ptblm.evaluation.evaluate import PROTOCOL, evaluate
from ptblm.evaluation.score import Score
from ptblm.progress_bar import ProgressBar
from ptblm.run.load_model import LoadedModel, load_model
from ptblm.run.memory import memory_errors


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
    device_name: str = "auto",
    show_progress: bool = False,
) -> Evaluation:
    """Evaluates a checkpoint.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is used.
        split: split of the corpus; None selects the test split.
        data: the corpus; None selects the corpus of the run.
        text: a file to evaluate on instead of a corpus; "-" reads standard input.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        DataError: if the text cannot be read or is too short.
        UsageError: if the device is not available or memory runs out.
    """
    loaded = load_model(path, device_name)
    encoded, name, bound = _read(loaded, split or "test", data or loaded.config.data.path, text)
    score = _score(loaded, encoded, name, show_progress=show_progress)
    if math.isnan(score.nll):
        raise CheckpointError(
            "the weights give no finite likelihood",
            where=str(loaded.path),
            hint="evaluate best.safetensors of the run",
        )
    return Evaluation(
        checkpoint=loaded.path,
        epochs=loaded.epochs,
        steps=loaded.steps,
        text=name,
        unit=loaded.tokenizer.unit,
        score=score,
        unknown=encoded.unknown,
        entropy_bound=bound,
        device=loaded.device,
        matmul=loaded.matmul,
        protocol=PROTOCOL.format(initial_state=loaded.config.model.initial_state),
    )


def _read(
    loaded: LoadedModel, split: Split, corpus: str, text: str | None
) -> tuple[EncodedText, str, float | None]:
    """Returns the text to evaluate on, its name, and its entropy bound if it is known."""
    tokenizer = loaded.tokenizer
    if text == "-":
        source = bytes_source("standard input", sys.stdin.buffer.read())
        return read_text(source, tokenizer), source.name, None
    if text is not None:
        source = read_file(Path(text))
        return read_text(source, tokenizer), source.name, None
    encoded = read_text(read_splits(corpus, tokenizer.name, [split])[split], tokenizer)
    bound = read_entropy_bound(corpus, split, encoded.sha256, tokenizer.name)
    rule = split_rule(corpus, tokenizer.name)
    name = f"{split} split of {corpus_name(corpus)}" + ("" if rule is None else f", {rule}")
    return encoded, name, bound


def _score(loaded: LoadedModel, text: EncodedText, name: str, *, show_progress: bool) -> Score:
    score, total = Score(), len(text.ids) - 1
    with ProgressBar(total) if show_progress else nullcontext() as bar:
        for score in evaluate(loaded.model, loaded.tokenizer, text):
            if bar is not None:
                share = f"{score.tokens / total:.0%}"
                bar.show(score.tokens, [name, f"perplexity {score.perplexity:.2f}", share])
    return score
