"""Tunes the settings of an evaluation on the validation text, and writes them to a file."""

import errno
import json
import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ptblm.config.evaluation import (
    DynamicSettings,
    EvaluationSettings,
    MonteCarloSettings,
    Tuned,
    TunedCheckpoint,
)
from ptblm.corpus.batches import count_streams
from ptblm.errors import UsageError
from ptblm.evaluation.scorer import on_device
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.tune_settings import SettingsTuner, TuneOutcome, Wanted
from ptblm.files import check_output, os_errors, write_text
from ptblm.json_files import finite
from ptblm.progress_bar import ProgressBar
from ptblm.run.evaluated_text import read_evaluated_split
from ptblm.run.load_model import LoadedModel
from ptblm.run.memory import memory_errors
from ptblm.run.not_finite import not_finite_error
from ptblm.run.pipelines import (
    check_settings,
    file_sha256,
    load_models,
    training_rms,
)
from ptblm.terminal import escape


@dataclass(frozen=True)
class TuneRequest:
    """What to tune.

    Attributes:
        checkpoints: checkpoints or run directories, at least one.
        to: the file of the settings.
        dynamic: whether to tune dynamic evaluation.
        segment_length: tokens that dynamic evaluation scores before each update.
        cache: whether to tune a neural cache.
        mc_samples: dropout samples.
        max_tokens: length of the start of the text that is used; None for all of it.
        data: the corpus; None selects the corpus of the run.
        cell: the custom cell of the checkpoints, which the caller agrees to run.
        overrides: strings such as "data.encoding=latin-1", for how the text is read.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
    """

    checkpoints: Sequence[Path]
    to: Path
    dynamic: bool = False
    segment_length: int = 5
    cache: bool = False
    mc_samples: int = 0
    max_tokens: int | None = None
    data: str | None = None
    cell: str | None = None
    overrides: Sequence[str] = ()
    device_name: str = "auto"


@dataclass(frozen=True)
class TunedSettings:
    """The result of tuning.

    Attributes:
        checkpoints: the checkpoint files.
        to: the file that was written.
        settings: its content.
    """

    checkpoints: list[Path]
    to: Path
    settings: EvaluationSettings


@memory_errors("during tuning", hint="use a machine with more memory, or tune without --dynamic")
def tune_evaluation(request: TuneRequest, *, show_progress: bool = False) -> TunedSettings:
    """Tunes settings on the validation text, and writes them to a file.

    The test text is not read.

    Args:
        request: what to tune.
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded.
        ConfigError: if an override is not valid.
        DataError: if the text cannot be read or is too short.
        UsageError: if the checkpoints do not fit together, the device is not available, or the
            file cannot be written.
    """
    models = load_models(request.checkpoints, request.device_name, request.cell)
    with os_errors(UsageError, "the settings cannot be written", where=request.to):
        check_output(request.to, [loaded.path for loaded in models])
        if not os.access(request.to.parent, os.W_OK):  # found before tuning, which can take hours
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(request.to))
    first = models[0]
    start = EvaluationSettings(
        monte_carlo=MonteCarloSettings(samples=request.mc_samples) if request.mc_samples else None
    )
    check_settings(models, start)
    text = read_evaluated_split(first, "valid", request.data, request.overrides)
    tokens = text.encoded.ids[: None if request.max_tokens is None else request.max_tokens + 1]
    count_streams(len(tokens), 1, 1, "valid split")
    outcome = _tune(models, request, start, on_device(tokens, first.device.device), show_progress)
    if not math.isfinite(outcome.after):
        raise not_finite_error(first.path, start, "perplexity")
    settings = outcome.settings.model_copy(
        update={
            "tuned": Tuned(
                checkpoints=[
                    TunedCheckpoint(file=escape(str(each.path)), sha256=file_sha256(each.path))
                    for each in models
                ],
                text=escape(text.name),
                tokens=outcome.tokens,
                perplexity_before=finite(outcome.before),
                perplexity_after=outcome.after,
                edges=outcome.edges,
                tried=finite(outcome.tried),
            )
        }
    )
    with os_errors(UsageError, "the settings cannot be written", where=request.to):
        write_text(request.to, settings_text(settings))
    return TunedSettings([each.path for each in models], request.to, settings)


def settings_text(settings: EvaluationSettings) -> str:
    """Returns settings as JSON, which is also YAML."""
    content = json.dumps(finite(settings.model_dump()), indent=1, ensure_ascii=False)
    return f"{content}\n"


def _tune(
    models: Sequence[LoadedModel],
    request: TuneRequest,
    start: EvaluationSettings,
    ids: Tensor,
    show_progress: bool,
) -> TuneOutcome:
    dynamic, rms = None, None
    if request.dynamic:
        dynamic = DynamicSettings(segment_length=request.segment_length)
        rms = training_rms(models, request.segment_length, show_progress=show_progress)
    window = models[0].config.training.num_steps

    def make_pipeline(settings: EvaluationSettings) -> Pipeline:
        return Pipeline([loaded.model for loaded in models], settings, window, rms)

    with ProgressBar(len(ids) - 1) if show_progress else nullcontext() as bar:

        def show(name: str, done: int) -> None:
            if bar is not None:
                bar.show(done, [f"tuning on the valid split: {name}", f"{done / len(ids):.0%}"])

        tuner = SettingsTuner(make_pipeline, len(models), ids, show)
        return tuner.tune(start, Wanted(dynamic, request.cache))
