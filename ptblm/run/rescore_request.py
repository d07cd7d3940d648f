"""What to rescore, and how: the options of `ptblm rescore`, and which of them can be combined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ptblm.corpus.nbest import FORMATS
from ptblm.corpus.nbest.hypothesis import Format, ReadOptions
from ptblm.errors import UsageError
from ptblm.evaluation.combination import Weights

_DEFAULT_WEIGHT = 0.5


@dataclass(frozen=True)
class Request:
    """What to rescore, and how.

    Attributes:
        checkpoint: a checkpoint, or a run directory, whose last checkpoint is used.
        nbest: the files or, for ESPnet, directories; "-" is standard input.
        format_name: name of their format.
        weight: weight of the model; None for 0.5.
        scale: factor of language model scores; None for the default of the format.
        penalty: score added for each word; None for 0.
        unk_penalty: score of each unknown word, in the base of the list; 0 leaves it out.
        unk_probs: a file of probabilities of unknown words.
        carry: whether the hidden state is carried to the next utterance.
        base: base of all scores; None for that of the format.
        beam_size: hypotheses of each utterance; only for NeMo.
        costs: directory of the costs of the hypotheses; only for Kaldi.
        mix: a file of word scores of another model.
        mix_weight: weight of the model in this mixture; None for the most likely one.
        cell: the custom cell of the checkpoint, which the caller agrees to run.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
    """

    checkpoint: Path
    nbest: Sequence[str]
    format_name: str
    weight: float | None = None
    scale: float | None = None
    penalty: float | None = None
    unk_penalty: float | None = None
    unk_probs: str | None = None
    carry: bool = False
    base: float | None = None
    beam_size: int | None = None
    costs: str | None = None
    mix: str | None = None
    mix_weight: float | None = None
    cell: str | None = None
    device_name: str = "auto"

    @property
    def format(self) -> Format:
        """The format of the lists."""
        return FORMATS[self.format_name]

    @property
    def read_options(self) -> ReadOptions:
        """What the format needs to read the lists."""
        return ReadOptions(self.beam_size or 1, self.costs)

    @property
    def log_base(self) -> float:
        """Natural logarithm of the base of all scores."""
        return math.log(self.base or self.format.base)

    @property
    def weights(self) -> Weights:
        """The weights, or their default values."""
        return Weights(
            _DEFAULT_WEIGHT if self.weight is None else self.weight,
            self.format.lm_scale if self.scale is None else self.scale,
            0.0 if self.penalty is None else self.penalty,
        )


def check(request: Request, reference: str | None = None) -> None:
    """Checks that the options of a request can be combined.

    Args:
        request: the request.
        reference: a further input file.

    Raises:
        UsageError: if the request is contradictory.
    """
    weights = request.weights
    if request.unk_penalty is not None and request.unk_probs is not None:
        raise UsageError("--unk-penalty and --unk-probs cannot be combined")
    numbers = {
        "--lm-weight": weights.weight,
        "--lm-scale": weights.scale,
        "--word-penalty": weights.penalty,
        "--unk-penalty": request.unk_penalty or 0.0,
    }
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise UsageError(f"{name}: expected a finite number, got {value}")
    for name in ("--lm-weight", "--lm-scale"):
        if numbers[name] < 0:
            raise UsageError(f"{name}: expected a number that is not negative")
    has_language = request.format.score == "language" or request.costs is not None
    if weights.weight > 1 and has_language:
        raise UsageError(
            "--lm-weight: expected a number from 0 to 1; the rest is the weight of the language "
            "model score in the list",
            hint="the factor of both is --lm-scale",
        )
    if (request.unk_penalty or 0.0) > 0:
        raise UsageError("--unk-penalty: expected the logarithm of a probability, at most 0")
    if request.format_name != "nemo" and request.beam_size is not None:
        raise UsageError("--beam-size is only for --format nemo, which has no utterance ids")
    if request.format_name == "nemo" and request.beam_size is None:
        raise UsageError(
            "--format nemo needs --beam-size",
            hint="pass the beam size of the recognizer, the number of rows of each utterance",
        )
    if request.format_name != "kaldi" and request.costs is not None:
        raise UsageError("--costs is only for --format kaldi, whose lists contain no scores")
    inputs = [*request.nbest, request.mix, request.unk_probs, reference]
    if inputs.count("-") > 1:
        raise UsageError("only one input can be standard input")
