"""The error of an evaluation whose result is not finite."""

from pathlib import Path

from ptblm.config.evaluation import EvaluationSettings
from ptblm.errors import CheckpointError, PtblmError, UsageError
from ptblm.paths import shell_join


def not_finite_error(path: Path, settings: EvaluationSettings, what: str) -> PtblmError:
    """Returns the error of an evaluation whose result is not finite.

    Args:
        path: the checkpoint.
        settings: the settings of the evaluation.
        what: what is not finite: "perplexity", "scores" or "probabilities".
    """
    temperature = settings.temperature
    nearer = "a temperature nearer to 1"
    if settings.active().dynamic is not None:
        hint = "use a smaller learning_rate, or a larger decay or epsilon"
        return UsageError(
            f"dynamic evaluation gives no finite {what}",
            hint=f"{hint}, or {nearer}" if temperature < 1 else hint,
        )
    if temperature < 1:  # a larger one brings all probabilities nearer to each other
        return UsageError(
            f"temperature {temperature:g} gives no finite {what}",
            where=str(path),
            hint=f"use {nearer}; if there is none at 1 either, use another checkpoint",
        )
    best = path.with_name("best.safetensors")
    return CheckpointError(
        f"the weights give no finite {what}",
        where=str(path),
        hint=shell_join(["ptblm", "eval", str(best)])
        if what == "perplexity" and best != path and best.is_file()
        else "use another checkpoint",
    )
