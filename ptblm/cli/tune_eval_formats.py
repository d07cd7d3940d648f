"""The result of `ptblm tune-eval` as text or JSON."""

from typing import Any

from ptblm.evaluation.scorers.description import method_name, method_steps
from ptblm.paths import shell_join
from ptblm.run.tune_eval import TunedSettings
from ptblm.terminal import counted


def tuned_lines(result: TunedSettings) -> list[str]:
    """Returns the result as lines of text."""
    settings, tuned = result.settings.active(), result.settings.tuned
    if tuned is None:
        return []
    files, models = list(map(str, result.checkpoints)), len(result.checkpoints)
    method = method_name(settings, models)
    return [
        *(f"checkpoint   {file}" for file in files),
        f"text         {tuned.text}, {counted(tuned.tokens, 'token')} scored",
        f"before       perplexity {_shown(tuned.perplexity_before)}, static evaluation",
        f"after        perplexity {tuned.perplexity_after:.2f}, {method}",
        *(f"setting      {step}" for step in method_steps(settings, models)),
        *(
            f"edge         {key}: the best value is at the edge of the values that were tried"
            for key in tuned.edges
        ),
        f"tried        {counted(len(tuned.tried), 'point')}",
        f"written      {result.to}",
        f"next         {shell_join(['ptblm', 'eval', *files, '--settings', str(result.to)])}",
    ]


def tuned_json(result: TunedSettings) -> dict[str, Any]:
    """Returns the result as a JSON object."""
    return {"settings_file": str(result.to), **result.settings.model_dump()}


def _shown(perplexity: float | None) -> str:
    return "infinity" if perplexity is None else f"{perplexity:.2f}"
