"""metrics.jsonl: one strict JSON object per line, flushed line by line."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptblm.files import strict_json
from ptblm.training.records import EpochDone, Record, RunDone, StepDone


class MetricsFile:
    """Appends a run's records to its metrics file.

    Args:
        path: of the file.
        keep: bytes that are kept; what a stopped run wrote after its checkpoint is dropped.
        log_every: steps between two step records.
    """

    def __init__(self, path: Path, keep: int, log_every: int) -> None:
        self._file = path.open("ab")
        self._file.truncate(min(keep, path.stat().st_size))
        self._file.seek(0, 2)
        self._log_every = log_every

    def write(self, record: Record) -> None:
        """Writes the records that the file is to hold, and passes over the others."""
        if isinstance(record, StepDone):
            if record.step % self._log_every == 0:
                self._append(step_metrics(record))
        elif isinstance(record, EpochDone):
            self._append({"kind": "epoch", **asdict(record)})
        elif isinstance(record, RunDone):
            self._append({"kind": "test", "step": record.step, **test_metrics(record)})

    @property
    def offset(self) -> int:
        """Bytes written, all of them handed to the system."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, metrics: dict[str, Any]) -> None:
        self._file.write(strict_json(metrics).encode() + b"\n")
        self._file.flush()


def step_metrics(record: StepDone) -> dict[str, Any]:
    """A step's figures; the perplexity is the running one of its epoch."""
    return {
        "kind": "step",
        "epoch": record.epoch,
        "step": record.step,
        "learning_rate": record.learning_rate,
        "nll": record.nll / record.tokens,
        "grad_norm": record.grad_norm,
        "perplexity": record.running_perplexity,
        "tokens_per_second": record.tokens_per_second,
    }


def test_metrics(record: RunDone) -> dict[str, Any]:
    """The test split's figures."""
    return {
        "test_perplexity": record.score.perplexity,
        "nll": record.score.nats,
        "tokens": record.score.tokens,
    }
