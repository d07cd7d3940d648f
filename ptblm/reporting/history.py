"""Reads what a run has recorded: its config, metrics, result and environment.

Comparisons, plots and reports are views of a `RunHistory`. A run in progress can be read too.
"""

import contextlib
import io
import logging
import math
import os
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.errors import CheckpointError
from ptblm.files import open_regular, os_errors
from ptblm.json_files import JsonError, parse_json, read_json
from ptblm.paths import RUN_HINT
from ptblm.training.records import EpochDone, best_epoch

logger = logging.getLogger(__name__)

# Bounds for files of strangers. A run of a million steps that records every tenth is below them.
MAX_METRICS_BYTES = 100_000_000
MAX_LINE_BYTES = 65_536


class StepMetrics(NamedTuple):
    """The metrics of a step, as in metrics.jsonl. NaN stands for what is not finite.

    Attributes:
        epoch: the epoch, from 1.
        step: steps since the start of the run.
        learning_rate: learning rate of the step.
        nll: mean loss of the step, in nats per token.
        grad_norm: global gradient norm before clipping; None if the update was skipped.
        perplexity: training perplexity of the epoch so far.
        tokens_per_second: training speed in the epoch so far.
    """

    epoch: int
    step: int
    learning_rate: float
    nll: float
    grad_norm: float | None
    perplexity: float
    tokens_per_second: float


@dataclass(frozen=True)
class RunHistory:
    """What a run has recorded so far.

    Attributes:
        path: the run directory.
        config: the config of the run, with all defaults.
        steps: the recorded steps.
        epochs: the completed epochs.
        result: the content of result.json; empty until the run has finished.
        environment: the content of environment.json; empty if it cannot be read.
        state: whether the run has finished or diverged. An unfinished run may be in progress.
    """

    path: Path
    config: Config
    steps: list[StepMetrics]
    epochs: list[EpochDone]
    result: dict[str, Any]
    environment: dict[str, Any]
    state: Literal["finished", "diverged", "unfinished"]

    @property
    def name(self) -> str:
        """The name of the run directory."""
        return self.path.name

    @property
    def best(self) -> EpochDone | None:
        """The epoch with the lowest validation perplexity; None before the first epoch ends."""
        return best_epoch(self.epochs) if self.epochs else None

    @property
    def valid_perplexity(self) -> float | None:
        """Validation perplexity of the last epoch; None before the first epoch ends."""
        return self.epochs[-1].valid_perplexity if self.epochs else None

    @property
    def test_perplexity(self) -> float | None:
        """Test perplexity; None if the run has not finished or was not tested."""
        return self.number("test_perplexity")

    @property
    def parameters(self) -> int | None:
        """Number of parameters; None until the run has finished."""
        parameters = self.number("parameters")
        return None if parameters is None else int(parameters)

    @property
    def tokens_per_second(self) -> float | None:
        """Median training speed of the epochs; None before the first epoch ends."""
        speeds = [done.tokens_per_second for done in self.epochs]
        return statistics.median(speeds) if speeds else None

    @property
    def hours(self) -> float:
        """Training time of all epochs, without validation."""
        return sum(done.seconds for done in self.epochs) / 3600

    def number(self, key: str) -> float | None:
        """Returns a finite number of result.json; None if there is none."""
        value = self.result.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return float(value) if math.isfinite(value) else None


def read_run(path: Path) -> RunHistory:
    """Reads a run, whether it has finished or is in progress.

    Args:
        path: the run directory.

    Raises:
        CheckpointError: if it is not a run directory or its metrics cannot be read.
        ConfigError: if its config is not valid.
    """
    config = path / "config.yaml"
    with os_errors(CheckpointError, where=path, hint=RUN_HINT):
        if not path.is_dir():
            what = "not a run directory" if os.path.lexists(path) else "no such run directory"
            raise CheckpointError(what, where=os.path.abspath(path), hint=RUN_HINT)
        if not config.exists():
            raise CheckpointError(
                "no run in this directory: config.yaml is missing",
                where=os.path.abspath(path),
                hint=RUN_HINT,
            )
        is_diverged = (path / "diverged.json").exists()
    steps, epochs = _read_metrics(path / "metrics.jsonl")
    result = read_json(path / "result.json")
    return RunHistory(
        Path(os.path.abspath(path)),
        load_config(str(config)),
        steps,
        epochs,
        result,
        read_json(path / "environment.json"),
        "finished" if result else "diverged" if is_diverged else "unfinished",
    )


def read_epochs(path: Path) -> list[EpochDone]:
    """Returns the epochs of a metrics file so far, without the steps.

    Raises:
        CheckpointError: if the file cannot be read or is too large.
    """
    epochs = []
    for line in _complete_lines(path):
        if b'"kind": "epoch"' in line:
            with contextlib.suppress(JsonError, ValidationError):
                epochs.append(_EPOCH.validate_python(_without_null(parse_json(line))))
    return epochs


_STEP, _EPOCH = TypeAdapter(StepMetrics), TypeAdapter(EpochDone)


def _read_metrics(path: Path) -> tuple[list[StepMetrics], list[EpochDone]]:
    """Returns the step and epoch records of a metrics file; none if there is no file yet."""
    steps: list[StepMetrics] = []
    epochs: list[EpochDone] = []
    damaged = 0
    for line in _complete_lines(path):
        try:
            record = _without_null(parse_json(line))
            match record.get("kind"):
                case "step":
                    fields = {name: record.get(name) for name in StepMetrics._fields}
                    steps.append(_STEP.validate_python(fields))
                case "epoch":
                    epochs.append(_EPOCH.validate_python(record))
        except (JsonError, ValidationError):
            damaged += 1
    if damaged:
        logger.warning(f"{path}: {damaged:,} lines are not records of a run; they are ignored")
    return steps, epochs


def _complete_lines(path: Path) -> Iterator[bytes]:
    """Yields the lines of a metrics file. A last line that is still being written is left out.

    Raises:
        CheckpointError: if the file cannot be read or is too large.
    """
    with os_errors(CheckpointError, where=path):
        if not path.exists():
            return
        with io.BufferedReader(open_regular(path)) as file:
            if os.fstat(file.fileno()).st_size > MAX_METRICS_BYTES:
                raise CheckpointError("too large for the metrics of a run", where=str(path))
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                yield line
            if len(line) == MAX_LINE_BYTES:
                raise CheckpointError("a line is too long for a record", where=str(path))


def _without_null(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a record in which NaN replaces null, which JSON has for what is not finite."""
    return {
        name: math.nan if value is None and name != "grad_norm" else value
        for name, value in record.items()
    }
