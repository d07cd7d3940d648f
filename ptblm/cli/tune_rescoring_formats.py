"""The result of `ptblm rescore --tune` as text or JSON."""

from typing import Any

from ptblm.run.tune_rescoring import TuneResult
from ptblm.terminal import counted


def tune_lines(result: TuneResult) -> list[str]:
    """Returns the result as lines of text."""
    tuned, weights = result.tuned, result.tuned.weights
    return [
        f"n-best lists   {counted(result.utterances, 'utterance')}, "
        f"{result.hypotheses:,} hypotheses",
        f"WER before     {_rate(tuned.before, result)}",
        f"WER after      {_rate(tuned.after, result)}",
        f"oracle WER     {_rate(tuned.oracle, result)}, the lowest that the lists allow",
        f"weights        --lm-weight {weights.weight:g} --lm-scale {weights.scale:g} "
        f"--word-penalty {weights.penalty:g}",
    ]


def tune_json(result: TuneResult) -> dict[str, Any]:
    """Returns the result as a JSON object."""
    tuned, weights = result.tuned, result.tuned.weights
    return {
        "utterances": result.utterances,
        "hypotheses": result.hypotheses,
        "words": result.words,
        "errors_before": tuned.before,
        "errors_after": tuned.after,
        "errors_oracle": tuned.oracle,
        "wer_before": tuned.before / result.words,
        "wer_after": tuned.after / result.words,
        "wer_oracle": tuned.oracle / result.words,
        "lm_weight": weights.weight,
        "lm_scale": weights.scale,
        "word_penalty": weights.penalty,
    }


def _rate(errors: int, result: TuneResult) -> str:
    return (
        f"{errors / result.words:.2%} ({counted(errors, 'error')} in "
        f"{counted(result.words, 'word')})"
    )
