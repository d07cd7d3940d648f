"""Analyzes the model of a checkpoint on a split of its corpus, for `ptblm report`."""

from contextlib import nullcontext

import numpy as np

from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.batches import count_streams
from ptblm.corpus.lines import lines_of
from ptblm.evaluation.analysis import GateMap, ModelAnalysis
from ptblm.evaluation.calibration import Calibration
from ptblm.evaluation.gates import gate_maps
from ptblm.evaluation.score import perplexity
from ptblm.evaluation.scored_text import (
    EncodedLines,
    ScoredText,
    first_tokens,
    groups_by_frequency,
    groups_by_position,
    hardest_tokens,
    passage,
    score_stream,
)
from ptblm.model.language_model import LanguageModel
from ptblm.progress_bar import ProgressBar
from ptblm.run.evaluated_text import read_evaluated_split
from ptblm.run.generate import generate_texts, make_text_generator
from ptblm.run.load_model import LoadedModel
from ptblm.run.memory import memory_errors
from ptblm.run.not_finite import not_finite_error

MAX_TOKENS = 200_000
_PASSAGE_LINES = 40
_PASSAGE_TOKENS = {"word": 400, "subword": 400}
_PASSAGE_CHARACTERS = 600
_HARDEST = 30
_CONTEXT = {"word": 20, "subword": 30}
_CONTEXT_CHARACTERS = 80
_GATE_TOKENS = range(8, 31)
_SAMPLES, _SAMPLE_TOKENS = 3, 40


@memory_errors("during the analysis", hint="pass --device cpu, or use a machine with more memory")
def analyze_model(
    loaded: LoadedModel,
    *,
    data: str | None = None,
    max_tokens: int = MAX_TOKENS,
    seed: int = 0,
    show_progress: bool = False,
) -> ModelAnalysis:
    """Analyzes a model on the start of the valid split, scored as one stream as by `eval`.

    Args:
        loaded: the model.
        data: the corpus; None selects the corpus of the run.
        max_tokens: the largest number of tokens of the text to read, at least 2.
        seed: seed of the generated texts.
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if a score is not finite, or the checkpoint names a corpus that the user
            has not agreed to read.
        DataError: if the text cannot be read, for example because the corpus was removed, or is too
            short.
        UsageError: if memory runs out, or the corpus of the run is unknown.
    """
    source = read_evaluated_split(loaded, "valid", data)
    text = first_tokens(lines_of(source.source, loaded.tokenizer), max_tokens)
    tokens = len(text.ids) - 1
    count_streams(len(text.ids), 1, 1, "text")  # raises an error if the text is too short
    calibration = Calibration()
    with ProgressBar(tokens) if show_progress else nullcontext() as bar:

        def show(done: int) -> None:
            if bar is not None:
                bar.show(done, [source.name, f"{done / tokens:.0%}"])

        scores = score_stream(loaded.model, text.ids, calibration, show)
    if not np.isfinite(scores.nll[1:]).all():
        raise not_finite_error(loaded.path, EvaluationSettings(), "scores")
    scored = ScoredText(text, scores, loaded.tokenizer)
    unit = loaded.tokenizer.unit
    shown = passage(scored, _PASSAGE_LINES, _PASSAGE_TOKENS.get(unit, _PASSAGE_CHARACTERS))
    gate_tokens, gates = _gates(loaded.model, text, len(shown))
    gate_tokens = list(map(loaded.tokenizer.spelled, gate_tokens))
    return ModelAnalysis(
        text=source.name if text.is_whole else f"{source.name}, first {len(text.ids):,} tokens",
        tokens=tokens,
        perplexity=perplexity(scored.nll, tokens),
        passage=shown,
        hardest=hardest_tokens(scored, _HARDEST, _CONTEXT.get(unit, _CONTEXT_CHARACTERS)),
        by_frequency=groups_by_frequency(scored),
        by_position=groups_by_position(scored),
        calibration=calibration.bins(),
        gate_tokens=gate_tokens,
        gates=gates,
        samples=_samples(loaded, seed),
    )


def _gates(
    model: LanguageModel, text: EncodedLines, passage_lines: int
) -> tuple[list[str], list[GateMap]]:
    """Returns the tokens of a short line of the passage, and the gates along it.

    Without a short line, the start of a longer one is used; without that, there are no gates.
    """
    lines = text.lines[:passage_lines]
    sizes = [len(line.tokens) for line in lines]
    short = [number for number, size in enumerate(sizes) if size in _GATE_TOKENS]
    long = [number for number, size in enumerate(sizes) if size >= _GATE_TOKENS.stop]
    if not short and not long:
        return [], []
    number = (short or long)[0]
    start, tokens = int(text.starts[number]), lines[number].tokens[: _GATE_TOKENS.stop - 1]
    gates = gate_maps(model, text.ids[:start], text.ids[start : start + len(tokens)])
    return (tokens, gates) if gates else ([], [])


def _samples(loaded: LoadedModel, seed: int) -> list[str]:
    generator = make_text_generator(loaded, tokens=_SAMPLE_TOKENS, seed=seed)
    return [sample.text for sample in generate_texts(generator, _SAMPLES)]
