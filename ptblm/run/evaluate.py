"""Conducts evaluation: a checkpoint and a text in, a score and its protocol out."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ptblm.corpus.batches import cut_batches
from ptblm.corpus.corpus import (
    Split,
    corpus_directory,
    corpus_name,
    read_floor,
    split_file,
)
from ptblm.corpus.reader import Text, encode_lines, read_text
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError
from ptblm.evaluation.evaluate import running_scores
from ptblm.evaluation.score import Score
from ptblm.model.language_model import LanguageModel
from ptblm.run.assemble import trained_model
from ptblm.run.directory import find_checkpoint
from ptblm.training.checkpoint import load_checkpoint
from ptblm.training.device import choose_device
from ptblm.training.precision import allow_tf32

PROTOCOL = (
    "one stream, start state: {start}; state carried to the end; "
    "every token but the first is a target; fp32"
)


@dataclass(frozen=True)
class Evaluation:
    """A score and what it is a score of.

    Attributes:
        checkpoint: the file.
        epochs: that its model was trained in full.
        steps: updates that were made to it.
        text: what was scored, in words.
        score: of it.
        unknown_words: words of the text outside the vocabulary.
        floor: the lowest honest perplexity, where known.
        device: what it was computed on, in words.
        protocol: how it was computed, in words.
    """

    checkpoint: Path
    epochs: int
    steps: int
    text: str
    score: Score
    unknown_words: int
    floor: float | None
    device: str
    protocol: str

    def as_json(self) -> dict[str, Any]:
        """For programs: plain values, nothing rounded."""
        return {
            "checkpoint": str(self.checkpoint),
            "epochs": self.epochs,
            "steps": self.steps,
            "text": self.text,
            "tokens": self.score.tokens,
            "nats_per_token": self.score.nats,
            "bits_per_token": self.score.bits,
            "perplexity": self.score.perplexity,
            "floor": self.floor,
            "unknown_words": self.unknown_words,
            "unk_tokens": self.score.unk_tokens,
            "perplexity_without_unk": self.score.perplexity_without_unk,
            "protocol": self.protocol,
            "device": self.device,
        }

    def lines(self) -> list[str]:
        """For people."""
        score = self.score
        floor = "" if self.floor is None else f" (floor {self.floor:.2f})"
        without = score.perplexity_without_unk
        lines = [
            f"checkpoint   {self.checkpoint}, after epoch {self.epochs}, step {self.steps:,}",
            f"text         {self.text}",
            f"tokens       {score.tokens:,} scored",
            f"nats         {score.nats:.4f} per token",
            f"bits         {score.bits:.4f} per token",
            f"perplexity   {score.perplexity:.2f}{floor}",
            f"unknown      {self.unknown_words:,} words are outside the vocabulary",
        ]
        if score.unk_tokens and without is not None:
            lines.append(
                f"<unk>        {score.unk_tokens:,} targets are <unk>; "
                f"perplexity without them {without:.2f}"
            )
        return [*lines, f"protocol     {self.protocol}", f"device       {self.device}"]


def evaluate_checkpoint(
    path: Path,
    *,
    split: Split | None,
    data: str | None,
    text: str | None,
    device_name: str,
) -> Evaluation:
    """Scores a text with a checkpoint.

    Args:
        path: a checkpoint, or a run directory, whose last checkpoint is taken.
        split: of the corpus; None takes the test split.
        data: the corpus; None takes the one that the model was trained on.
        text: a file to score instead of a corpus, "-" for standard input.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        CheckpointError: if there is no checkpoint or it is damaged.
        DataError: if the text can't be read or scored.
        UsageError: if the device is absent.
    """
    device, device_description = choose_device(device_name)
    allow_tf32(False)
    path = find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    config = checkpoint.parsed_config()
    vocabulary = checkpoint.parsed_vocabulary()
    floor = None
    if text is not None:
        encoded, name = _read_any_text(text, vocabulary)
    else:
        source, split = data or config.data.path, split or "test"
        directory = corpus_directory(source)
        encoded = read_text(split_file(directory, split), vocabulary)
        floor = read_floor(directory, split, encoded.sha256)
        name = f"{split} split of {corpus_name(source)}"
    model = trained_model(config.model, checkpoint, path).to(device).eval()
    score = _score(model, encoded, name, vocabulary.unk_id)
    if math.isnan(score.nll):
        raise CheckpointError(
            "its weights give no finite likelihood", where=str(path), hint="best.pt of its run"
        )
    return Evaluation(
        path,
        *checkpoint.trained(),
        name,
        score,
        encoded.unknown_words,
        floor,
        device_description,
        PROTOCOL.format(start=config.model.initial_state),
    )


def _score(model: LanguageModel, text: Text, name: str, unk_id: int | None) -> Score:
    device = model.softmax.weight.device
    # One stream of single steps: all tokens but the first are targets.
    batches = cut_batches(text.ids, 1, 1, "text")
    inputs, targets = (
        torch.tensor(ids, device=device) for ids in (batches.inputs, batches.targets)
    )
    score = Score()
    with tqdm(total=inputs.numel(), desc=name, leave=False, disable=not sys.stderr.isatty()) as bar:
        for score in running_scores(model, inputs, targets, unk_id=unk_id):
            bar.update(score.tokens - bar.n)
    return score


def _read_any_text(text: str, vocabulary: Vocabulary) -> tuple[Text, str]:
    if text == "-":
        return encode_lines(sys.stdin.buffer, "standard input", vocabulary), "standard input"
    return read_text(Path(text), vocabulary), text
