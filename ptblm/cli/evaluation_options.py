"""Options of evaluations beyond one static model, which several commands share."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ptblm.cli.completion import complete_file, complete_run
from ptblm.cli.options import parse_name, parse_path

if TYPE_CHECKING:
    from ptblm.config.evaluation import EvaluationSettings

Checkpoints = Annotated[
    list[Path],
    typer.Argument(
        metavar="CHECKPOINT|RUN_DIR",
        help="Checkpoint file, or run directory, whose last checkpoint is used. If several are "
        "given, their probabilities are averaged.",
        parser=parse_path,
        autocompletion=complete_run,
    ),
]
Ensemble = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="CHECKPOINT|RUN_DIR",
        help="Another checkpoint, whose probabilities are averaged with those of the first one; "
        "repeatable.",
        parser=parse_path,
        autocompletion=complete_run,
    ),
]
Settings = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Settings of the evaluation, as `ptblm tune-eval` writes them (YAML or JSON). Other "
        "options have priority.",
        parser=parse_path,
        autocompletion=complete_file,
    ),
]
Temperature = Annotated[
    float | None,
    typer.Option(metavar="T", help="Divide the logits by a temperature.", show_default="1"),
]
McSamples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Monte-Carlo dropout: average the probabilities of N samples of the dropout masks.",
        show_default="0",
    ),
]
Cache = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Mix with a neural cache: window (500 tokens), theta (1), weight (0.1).",
        parser=parse_name,
        show_default="no cache",
    ),
]
Dynamic = Annotated[
    str | None,
    typer.Option(
        metavar="KEY=VALUE,...",
        help="Dynamic evaluation, which adapts the weights to the text: rule (rms or sgd), "
        "learning_rate (5e-5), decay (0.002), epsilon (2e-5), segment_length (5 tokens).",
        parser=parse_name,
        show_default="fixed weights",
    ),
]


def load_typed_settings(
    file: Path | None,
    temperature: float | None,
    mc_samples: int | None,
    cache: str | None,
    dynamic: str | None,
) -> "EvaluationSettings":
    """Returns the settings that a user typed; see `config/evaluation_loading.py`.

    Raises:
        ConfigError: with every problem of the file and the options.
    """
    from ptblm.config.evaluation_loading import SettingsOptions, load_settings

    return load_settings(SettingsOptions(file, temperature, mc_samples, cache, dynamic))
