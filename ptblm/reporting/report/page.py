"""The HTML page of a report, from runs and analyses of their models.

Jinja escapes all values, so that names and texts of strangers are only text.
"""

import hashlib
import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ptblm import __version__
from ptblm.config.differences import config_differences
from ptblm.config.loading import load_config, shipped_configs
from ptblm.config.schema import Config
from ptblm.errors import UsageError
from ptblm.evaluation.analysis import ModelAnalysis, ScoredToken
from ptblm.files import os_errors
from ptblm.paths import shell_join
from ptblm.reporting.compare import compare_runs
from ptblm.reporting.comparison_formats import table_cells
from ptblm.reporting.history import RunHistory
from ptblm.reporting.report.figures import calibration_figure, figures_of_runs, gate_figures
from ptblm.reporting.run_labels import run_labels
from ptblm.terminal import escape

MAX_RUNS = 6
_HERE = Path(__file__).parent
_CLASSES = 8  # of surprisal, for colors
_BITS_PER_CLASS = 2.5

# Bounds of what a page contains of each run, because its files can be those of a stranger.
_MAX_TOP = 3
_MAX_EPOCHS, _MAX_ROWS = 200, 100
_MAX_TOKEN, _MAX_LINE, _MAX_VALUE = 40, 300, 500  # characters


@dataclass(frozen=True)
class AnalyzedModel:
    """The analysis of the model of a run.

    Attributes:
        analysis: the analysis; None if it could not be made.
        note: why there is no analysis; "" if there is one.
        corpus_sha256: the SHA-256 of each split of the corpus, if the checkpoint was read.
    """

    analysis: ModelAnalysis | None
    note: str = ""
    corpus_sha256: Mapping[str, str] | None = None


def check_jinja() -> None:
    """Checks that a report can be made.

    Raises:
        UsageError: if Jinja is not installed.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise UsageError(
            "a report requires the jinja2 package", hint="pip install 'ptblm[report]'"
        ) from None


def report_page(runs: Sequence[RunHistory], models: Sequence[AnalyzedModel]) -> str:
    """Returns the page.

    Args:
        runs: one to six runs.
        models: the analysis of each run.

    Raises:
        UsageError: if Jinja is not installed.
    """
    check_jinja()
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["visible"] = escape
    labels = run_labels(runs)
    style, template = _part("style.css"), environment.from_string(_part("page.html.j2"))
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    comparison = compare_runs(runs)
    page = template.render(
        version=__version__,
        style=style,
        style_hash=digest,
        title=labels[0] if len(runs) == 1 else f"{len(runs)} runs",
        comparison=[
            [_shortened(cell, _MAX_VALUE) for cell in row] for row in table_cells(comparison)
        ],
        published=_published(runs),
        figures=figures_of_runs(runs, labels),
        runs=[
            _run(run, label, model) for run, label, model in zip(runs, labels, models, strict=True)
        ],
        data=_data(runs, labels),
    )
    return page.lstrip()  # macros at the start of the template leave newlines


def _part(name: str) -> str:
    """Returns a file of this package."""
    with os_errors(UsageError, "the installation of ptblm is damaged"):
        return (_HERE / name).read_text(encoding="utf-8")


def _run(run: RunHistory, label: str, model: AnalyzedModel) -> dict[str, Any]:
    """Returns what the page shows of a run."""
    name, differences = nearest_shipped(run.config)
    analysis = model.analysis
    return {
        "label": label,
        "state": run.state,
        "nearest": name,
        "differences": [
            (key, _value(old), _value(new)) for key, old, new in differences[:_MAX_ROWS]
        ],
        "environment": _environment(run, model.corpus_sha256 or {}),
        "note": _shortened(model.note, 4 * _MAX_VALUE),
        "analysis": analysis,
        "passage": [] if analysis is None else [map(_token, line) for line in analysis.passage],
        "hardest": []
        if analysis is None
        else [(_ending(each.before), _token(each.scored), each.line) for each in analysis.hardest],
        "samples": [] if analysis is None else list(map(_sample, analysis.samples)),
        "groups": [] if analysis is None else _groups(analysis),
        "calibration": None if analysis is None else calibration_figure(analysis),
        "gates": [] if analysis is None else gate_figures(analysis),
    }


def nearest_shipped(config: Config) -> tuple[str, list[tuple[str, object, object]]]:
    """Returns the shipped config with the fewest differences from a config, and these."""
    found = [
        (name, _recipe_differences(shipped, config)) for name, shipped in _shipped_configs().items()
    ]
    return min(found, key=lambda pair: len(pair[1]))


def _recipe_differences(shipped: Config, config: Config) -> list[tuple[str, object, object]]:
    return [
        difference
        for difference in config_differences(shipped, config)
        if difference[0] not in ("data.path", "training.seed")
    ]


@cache
def _shipped_configs() -> dict[str, Config]:
    return {name: load_config(name) for name in shipped_configs()}


def _published(runs: Sequence[RunHistory]) -> list[list[str]]:
    """Returns the published results in result.json: source, train, valid and test perplexity."""
    rows = {}
    for run in runs:
        found = run.result.get("published")
        for each in found if isinstance(found, list) else []:
            if isinstance(each, dict):
                values = [each.get(split) for split in ("train", "valid", "test")]
                rows[str(each.get("source"))[:200]] = [_perplexity(value) for value in values]
    return [[source, *values] for source, values in rows.items()][:_MAX_ROWS]


def _environment(run: RunHistory, hashes: Mapping[str, str]) -> list[tuple[str, str]]:
    """Returns names and values of what is needed to repeat a run."""
    environment = run.environment
    command = environment.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    versions, computing = (
        value if isinstance(value := environment.get(key), dict) else {}
        for key in ("versions", "computing")
    )
    rows = [
        ("command", shell_join(["ptblm", *words[1:]]) if words else ""),
        ("started", environment.get("started", "")),
        ("seed", run.config.training.seed),
        ("corpus", run.config.data.path),
        *((f"SHA-256 of {split}", value) for split, value in hashes.items() if value),
        ("versions", ", ".join(f"{name} {value}" for name, value in versions.items() if value)),
        ("device", f"{computing.get('device', '')}, {computing.get('hardware', '')}".strip(", ")),
        ("threads", computing.get("threads", "")),
        ("platform", environment.get("platform", "")),
    ]
    return [(name, _shortened(str(value), 4 * _MAX_VALUE)) for name, value in rows if value != ""]


def _groups(analysis: ModelAnalysis) -> list[dict[str, Any]]:
    """Returns the tables of perplexity by group, with the length of a bar for each row."""
    tables = [
        ("By occurrences in training", "occurrences", analysis.by_frequency),
        ("By position in the line", "position", analysis.by_position),
    ]
    return [
        {
            "title": title,
            "name": name,
            "rows": [
                (each.label, f"{each.tokens:,}", f"{each.perplexity:,.1f}", _bar(each.perplexity))
                for each in groups
            ],
        }
        for title, name, groups in tables
        if groups
    ]


def _bar(perplexity: float) -> int:
    """Returns the length of a bar in percent, on a logarithmic scale up to a million."""
    return round(min(100.0, 100 * math.log10(max(perplexity, 1.0)) / 6))


def _token(scored: ScoredToken) -> dict[str, Any]:
    """Returns what the page shows of a token."""
    return {
        "text": _shortened(scored.token, _MAX_TOKEN),
        "shade": min(_CLASSES - 1, int(scored.surprisal / _BITS_PER_CLASS)),
        "bits": f"{scored.surprisal:.1f}",
        "rank": f"{scored.rank:,}",
        "unknown": scored.unknown,
        "top": [
            (_shortened(each.token, _MAX_TOKEN), f"{each.probability:.1%}")
            for each in scored.top[:_MAX_TOP]
        ],
    }


def _sample(text: str) -> list[str]:
    """Returns the lines of a generated text."""
    return [_shortened(line, 4 * _MAX_LINE) for line in text.split("\n")[:_MAX_ROWS]]


def _shortened(text: str, size: int) -> str:
    """Returns the start of a text, on one line."""
    text = escape(text[: size + 1])
    return text if len(text) <= size else f"{text[:size]}…"


def _ending(text: str) -> str:
    """Returns the end of a long context, on one line."""
    text = escape(text[-_MAX_LINE - 1 :])
    return text if len(text) <= _MAX_LINE else f"…{text[-_MAX_LINE:]}"


def _data(runs: Sequence[RunHistory], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the results and epochs of the runs, for programs that read the page."""
    return [
        {
            "run": label,
            "state": run.state,
            "valid_perplexity": _finite(run.valid_perplexity),
            "test_perplexity": run.test_perplexity,
            "epochs": [
                {name: _finite(value) for name, value in vars(done).items()}
                for done in run.epochs[:: -(-len(run.epochs) // _MAX_EPOCHS) or 1]
            ],
        }
        for run, label in zip(runs, labels, strict=True)
    ]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _perplexity(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "-"


def _value(value: object) -> str:
    return _shortened(value if isinstance(value, str) else json.dumps(value), _MAX_VALUE)
