"""Conducts evaluation: a checkpoint and a text in, a score and its protocol out."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from ptblm.backend.allocator import keep_freed_memory
from ptblm.backend.device import select_device
from ptblm.backend.matmul import MatmulBackend, select_matmul_backend
from ptblm.backend.precision import allow_tf32
from ptblm.checkpoint.format import load_checkpoint
from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.reader import EncodedText, read_text
from ptblm.corpus.source import Source, bytes_source, read_file
from ptblm.corpus.splits import Split, corpus_name, read_splits, split_rule
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import EOS, UNK
from ptblm.errors import CheckpointError
from ptblm.evaluation.score import Score
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.model.language_model import LanguageModel
from ptblm.reporting.bits import score_bits
from ptblm.run.directory import find_checkpoint
from ptblm.run.memory import explained_out_of_memory
from ptblm.run.setup import trained_model

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
        unit: what its tokens are.
        score: of it.
        unknown: tokens of the text outside the vocabulary.
        floor: the lowest honest perplexity, where known.
        device: what it was computed on, in words.
        protocol: how it was computed, in words.
    """

    checkpoint: Path
    epochs: int
    steps: int
    text: str
    unit: str
    score: Score
    unknown: int
    floor: float | None
    device: str
    protocol: str

    def as_json(self) -> dict[str, Any]:
        """For programs: plain values, nothing rounded."""
        without_unk = self.score.without(UNK)
        return {
            "checkpoint": str(self.checkpoint),
            "epochs": self.epochs,
            "steps": self.steps,
            "text": self.text,
            "tokens": self.score.tokens,
            "nats_per_token": self.score.nats,
            "bits_per_token": self.score.bits,
            "perplexity": self.score.perplexity,
            **score_bits(self.score, self.unit),
            "floor": self.floor,
            f"unknown_{self.unit}s": self.unknown,
            "unk_tokens": self.score.share(UNK).tokens,
            "perplexity_without_unk": None if without_unk is None else without_unk.perplexity,
            "protocol": self.protocol,
            "device": self.device,
        }

    def lines(self) -> list[str]:
        """For people."""
        score = self.score
        floor = "" if self.floor is None else f" (floor {self.floor:.2f})"
        unk_tokens, without = score.share(UNK).tokens, score.without(UNK)
        lines = [
            f"checkpoint   {self.checkpoint}, after epoch {self.epochs}, step {self.steps:,}",
            f"text         {self.text}",
            f"tokens       {score.tokens:,} scored",
            f"nats         {score.nats:.4f} per token",
            f"bits         {score.bits:.4f} per {self._per()}",
            f"perplexity   {score.perplexity:.2f}{floor}",
            f"unknown      {self.unknown:,} {self.unit}s are outside the vocabulary",
        ]
        if unk_tokens and without is not None:
            lines.append(
                f"<unk>        {unk_tokens:,} targets are <unk>; "
                f"perplexity without them {without.perplexity:.2f}"
            )
        return [*lines, f"protocol     {self.protocol}", f"device       {self.device}"]

    def _per(self) -> str:
        """What the bits are per."""
        if self.unit == "word":
            return "token"
        without = self.score.without(EOS) if EOS in self.score.shares else None
        more = "" if without is None else f", {without.bits:.4f} without the {EOS}"
        return self.unit + more


@explained_out_of_memory(
    "while scoring", hint="--device cpu, a shorter text, or a machine with more memory"
)
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
        UsageError: if the device is absent, or memory runs out.
    """
    selected = select_device(device_name)
    device, device_description = selected.device, str(selected)
    allow_tf32(False)
    path = find_checkpoint(path)
    checkpoint = load_checkpoint(path)
    config = checkpoint.parsed_config()
    tokenizer = make_tokenizer(config.data.tokenizer, checkpoint.parsed_vocabulary())
    floor = None
    if text is not None:
        source = _any_text(text)
        encoded, name = read_text(source, tokenizer), source.name
    else:
        corpus, split = data or config.data.path, split or "test"
        encoded = read_text(read_splits(corpus, tokenizer.name, [split])[split], tokenizer)
        floor = read_entropy_bound(corpus, split, encoded.sha256, tokenizer.name)
        cut = split_rule(corpus, tokenizer.name)
        name = f"{split} split of {corpus_name(corpus)}" + ("" if cut is None else f", {cut}")
    # As the run computed, so that it finds the run's own figure again. Checkpoints of old did not
    # say how, since there was no other way.
    plain = not config.run.fused
    select_matmul_backend(device, cast(MatmulBackend, checkpoint.versions["products"]))
    if not plain:
        keep_freed_memory()
    model = trained_model(config.model, checkpoint, path, fused=not plain).to(device).eval()
    score = _score(model, encoded, name, tokenizer.special_ids)
    if math.isnan(score.nll):
        raise CheckpointError(
            "its weights give no finite likelihood",
            where=str(path),
            hint="best.safetensors of its run",
        )
    return Evaluation(
        path,
        *checkpoint.trained(),
        name,
        tokenizer.unit,
        score,
        encoded.unknown,
        floor,
        device_description,
        PROTOCOL.format(start=config.model.initial_state),
    )


def _score(model: LanguageModel, text: EncodedText, name: str, marks: dict[str, int]) -> Score:
    # One stream of single steps: all tokens but the first are targets.
    batches = batchify(text.ids, 1, 1, "text")
    inputs, targets = on_device(batches, model.head.weight.device)
    score = Score()
    with tqdm(total=inputs.numel(), desc=name, leave=False, disable=not sys.stderr.isatty()) as bar:
        for score in running_scores(model, inputs, targets, marks=marks):
            bar.update(score.tokens - bar.n)
    return score


def _any_text(text: str) -> Source:
    if text == "-":
        return bytes_source("standard input", sys.stdin.buffer.read())
    return read_file(Path(text))
