"""The file metrics.jsonl of a run: one strict JSON object per line, written without buffering."""

import contextlib
import errno
import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from ptblm.evaluation.score import Score
from ptblm.files import has_one_name, replacing
from ptblm.json_files import strict_json
from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.training.records import EpochDone, Record, RunDone, StepDone

logger = logging.getLogger(__name__)


class MetricsFile:
    """Appends the records of a run to its metrics file.

    Args:
        path: the file. It is created if it does not exist.
        size: size of the file in bytes when the checkpoint was saved; 0 for a new run. Later
            records are removed, because the resumed run rewrites them.
        log_every: steps between two step records.
        unit: name of a token: "word", "character", "byte" or "subword".

    Attributes:
        offset: size of the file in bytes, which contains only complete lines.

    Raises:
        OSError: if the file cannot be opened, or is a symbolic link.
    """

    def __init__(self, path: Path, size: int, log_every: int, unit: str) -> None:
        self.path = path
        self._file = _open(path)
        self.offset = self._end_of_last_line(size)
        if self.offset < size:
            missing = size - self.offset
            logger.warning(f"{path} is {missing:,} bytes shorter than at the last checkpoint")
        self._file.truncate(self.offset)
        self._log_every = log_every
        self._unit = unit
        self._pending = b""

    def write(self, record: Record) -> None:
        """Writes epoch and test records, and every `log_every`-th step record."""
        if isinstance(record, StepDone):
            if record.step % self._log_every == 0:
                self._append(_step_metrics(record))
        elif isinstance(record, EpochDone):
            self._append({"kind": "epoch", **asdict(record), **epoch_bits(record, self._unit)})
        elif isinstance(record, RunDone) and record.score is not None:
            self._append(_test_metrics(record.step, record.score, self._unit))

    def sync(self) -> None:
        """Flushes the file to the disk; call it before saving a checkpoint with `offset`.

        A file that was deleted or replaced during the run is rewritten.
        """
        with contextlib.suppress(OSError):
            if not self._is_in_place():
                self._rewrite()
            os.fsync(self._file.fileno())

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(self.path.lstat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _rewrite(self) -> None:
        """Copies the records from the open file, which has no name anymore, to a new file."""
        self._file.seek(0)
        with replacing(self.path) as copy:
            shutil.copyfileobj(self._file, copy)
        self._file.close()
        self._file = _open(self.path)
        logger.warning(f"{self.path} was deleted or replaced during the run; it was rewritten")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _end_of_last_line(self, size: int) -> int:
        """Returns the end of the last complete line within the first `size` bytes."""
        end = min(size, self._file.seek(0, os.SEEK_END))
        while end > 0:
            block = min(end, 65536)
            self._file.seek(end - block)
            newline = self._file.read(block).rfind(b"\n")
            if newline >= 0:
                return end - block + newline + 1
            end -= block
        return 0

    def _append(self, metrics: dict[str, Any]) -> None:
        """Writes complete lines. Lines that cannot be written are retried in the next call."""
        has_failed_before = bool(self._pending)
        self._pending += strict_json(metrics).encode() + b"\n"
        try:
            if self._file.write(self._pending) < len(self._pending):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self.offset)
            if not has_failed_before:
                reason = error.strerror or error
                logger.warning(f"{self.path} was not written ({reason}); training continues")
            return
        self.offset += len(self._pending)
        self._pending = b""


def _open(path: Path) -> IO[bytes]:
    """Opens or creates a file for reading and appending.

    Raises:
        OSError: if it cannot be opened, or is not a regular file with a single name. A symbolic or
            hard link could lead to any file of the user.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        if not has_one_name(os.fstat(descriptor)):
            raise OSError(errno.EINVAL, "a link or not a regular file", str(path))
        return os.fdopen(descriptor, "r+b", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _step_metrics(record: StepDone) -> dict[str, Any]:
    """Returns the metrics of a step. The perplexity is the perplexity of the epoch so far."""
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


def _test_metrics(step: int, score: Score, unit: str) -> dict[str, Any]:
    """Returns the metrics of the test split."""
    return {
        "kind": "test",
        "step": step,
        "test_perplexity": score.perplexity,
        "nll": score.nats,
        "tokens": score.tokens,
        **score_bits(score, unit, "test_"),
    }
