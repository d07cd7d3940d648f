"""Makes the report of runs: reads them, analyzes their models, and writes the page."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ptblm.backend.device import select_device
from ptblm.errors import CheckpointError, DataError, PtblmError, UsageError
from ptblm.files import check_new_output, os_errors, write_text
from ptblm.reporting.history import RunHistory
from ptblm.reporting.report.page import MAX_RUNS, AnalyzedModel, check_jinja, report_page
from ptblm.run.analysis import analyze_model
from ptblm.run.load_model import load_trusted_model

logger = logging.getLogger(__name__)


def write_report(
    runs: Sequence[RunHistory],
    path: Path,
    *,
    overwrite: bool = False,
    analysis: bool = True,
    data: str | None = None,
    cell: str | None = None,
    device_name: str = "auto",
    show_progress: bool = False,
) -> None:
    """Writes the report of runs as one HTML page.

    A model that cannot be analyzed, for example because its checkpoint is missing or its corpus is
    unknown, is noted on the page.

    Args:
        runs: one to six runs.
        path: the file to write.
        overwrite: whether to replace the file if it exists.
        analysis: whether to analyze the models.
        data: the corpus; None selects the corpus of each run.
        cell: the custom cell of the checkpoints, which the caller agrees to run.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        UsageError: if there are too many runs, the file exists or cannot be written, a package is
            missing, or the device is not available.
    """
    if len(runs) > MAX_RUNS:
        raise UsageError(
            f"{len(runs)} runs are too many for a report", hint=f"pass at most {MAX_RUNS}"
        )
    check_jinja()
    check_new_output(path, "report", overwrite=overwrite)
    if analysis:
        select_device(device_name)  # an error about it applies to all models
    models = [
        _analyze(run.path, data, cell, device_name, show_progress=show_progress)
        if analysis
        else AnalyzedModel(None, "The model was not analyzed (--no-analysis).")
        for run in runs
    ]
    page = report_page(runs, models)
    with os_errors(UsageError, "--to: cannot be written", where=path):
        write_text(path, page)


def _analyze(
    run: Path, data: str | None, cell: str | None, device_name: str, *, show_progress: bool
) -> AnalyzedModel:
    """Returns the analysis of the model of a run, or why there is none."""
    hashes = None
    try:
        loaded = load_trusted_model(run, device_name, cell)
        hashes = loaded.corpus_sha256
        analysis = analyze_model(loaded, data=data, show_progress=show_progress)
    except (CheckpointError, DataError, UsageError) as error:
        logger.warning(f"the model of {run} was not analyzed: {_reason(error)}")
        return AnalyzedModel(None, f"The model was not analyzed: {_reason(error)}", hashes)
    return AnalyzedModel(analysis, "", hashes)


def _reason(error: PtblmError) -> str:
    """Returns an error on one line, with its place and its hint."""
    parts = [*error.problems, error.where and f"at {error.where}", error.hint]
    return "; ".join(part for part in parts if part)
