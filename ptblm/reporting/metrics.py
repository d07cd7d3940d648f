"""metrics.jsonl: one strict JSON object per line, flushed line by line."""

import contextlib
import errno
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ptblm.files import strict_json
from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.training.records import EpochDone, Record, RunDone, StepDone


class MetricsFile:
    """Appends a run's records to its metrics file.

    Args:
        path: of the file.
        keep: bytes that are kept; what a stopped run wrote after its checkpoint is dropped.
        log_every: steps between two step records.
        unit: what the run's tokens are.

    Attributes:
        offset: bytes written, whole lines all of them.
    """

    def __init__(self, path: Path, keep: int, log_every: int, unit: str) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        self._file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
        self.offset = self._whole_lines(keep)
        if self.offset < keep:
            print(
                f"warning: {path} lacks {keep - self.offset:,} bytes that the checkpoint knew of",
                file=sys.stderr,
            )
        self._file.truncate(self.offset)
        self._log_every = log_every
        self._unit = unit
        self._unwritten = b""

    def write(self, record: Record) -> None:
        """Writes the records that the file is to hold, and passes over the others."""
        if isinstance(record, StepDone):
            if record.step % self._log_every == 0:
                self._append(step_metrics(record))
        elif isinstance(record, EpochDone):
            self._append({"kind": "epoch", **asdict(record), **epoch_bits(record, self._unit)})
        elif isinstance(record, RunDone):
            figures = test_metrics(record, self._unit)
            self._append({"kind": "test", "step": record.step, **figures})

    def sync(self) -> None:
        """Has all records on the disk, before a checkpoint says how many there are."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _whole_lines(self, keep: int) -> int:
        """Where the last line ends that lies within the first `keep` bytes."""
        at = min(keep, self._file.seek(0, os.SEEK_END))
        while at > 0:
            block = min(at, 65536)
            self._file.seek(at - block)
            newline = self._file.read(block).rfind(b"\n")
            if newline >= 0:
                return at - block + newline + 1
            at -= block
        return 0

    def _append(self, metrics: dict[str, Any]) -> None:
        """Writes whole lines; those that the disk refuses wait for the next call."""
        refused_before = bool(self._unwritten)
        self._unwritten += strict_json(metrics).encode() + b"\n"
        try:
            if self._file.write(self._unwritten) < len(self._unwritten):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self.offset)
            if not refused_before:
                reason = error.strerror or error
                print(f"warning: {self.path} was not written ({reason}); going on", file=sys.stderr)
            return
        self.offset += len(self._unwritten)
        self._unwritten = b""


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


def test_metrics(record: RunDone, unit: str) -> dict[str, Any]:
    """The test split's figures."""
    return {
        "test_perplexity": record.score.perplexity,
        "nll": record.score.nats,
        "tokens": record.score.tokens,
        **score_bits(record.score, unit, "test_"),
    }
