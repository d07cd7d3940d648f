"""Conducts a run: pulls the trainer's records, reports them, saves, heeds signals."""

import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptblm import __version__
from ptblm.checkpoint.format import Checkpoint
from ptblm.errors import CheckpointError, DivergedError, Interrupted
from ptblm.files import write_json
from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.reporting.metrics import MetricsFile
from ptblm.reporting.progress import Progress
from ptblm.reporting.published import published_results
from ptblm.reporting.table import epoch_row, header, summary
from ptblm.reporting.tensorboard import TensorBoard
from ptblm.run.directory import RunDirectory
from ptblm.run.resume import run_versions
from ptblm.run.saving import CheckpointInterval, keep_numbered, save_or_fail, save_or_warn
from ptblm.run.setup import RunComponents
from ptblm.run.signals import StopSignal
from ptblm.training.records import EpochDone, Evaluating, Record, RunDone, StepDone

# A step touches a few pages of the text for each of its streams: a thousand, some megabytes.
_RECORDS_PER_RELEASE = 1000


class TrainingRun:
    """A run under way.

    Args:
        components: its parts.
        directory: where it is kept.
        stop: says whether a signal came.
        metrics_offset: bytes of metrics.jsonl that belong to what is done already.
    """

    def __init__(
        self,
        components: RunComponents,
        directory: RunDirectory,
        stop: StopSignal,
        metrics_offset: int,
    ) -> None:
        self.config = components.config
        self.corpus = components.corpus
        self.trainer = components.trainer
        self.device = components.device
        self.directory = directory
        self.stop = stop
        training, run = self.config.training, self.config.run
        step = self.trainer.train_state.step
        self.metrics = MetricsFile(
            directory.metrics, metrics_offset, run.log_every, self.corpus.tokenizer.unit
        )
        self.logs: list[MetricsFile | TensorBoard] = [self.metrics]
        if run.tensorboard:
            self.logs.append(TensorBoard(directory.tensorboard, step + 1, run.log_every))
        self.progress = Progress(training.epochs, self.corpus.entropy_bounds)
        self.published = published_results(self.config, self.corpus)
        self.versions = run_versions(components)
        self.taken = 0
        self.interval = CheckpointInterval(run.checkpoint_every, step)

    def conduct(self) -> None:
        """Trains to the end, or until a signal.

        Raises:
            Interrupted: after a signal, with everything saved.
            DivergedError: with diverged.json written and all checkpoints as they were.
            CheckpointError: if a checkpoint that nothing can make up for could not be saved.
        """
        print("\n".join(self._introduction()), file=sys.stderr, flush=True)
        level = self.corpus.tokenizer.unit
        rows = [epoch_row(done, level) for done in self.trainer.train_state.history]
        self.progress.print_lines(header(level, self.corpus.entropy_bounds) + rows)
        try:
            for record in self.trainer.records():
                self._take(record)
                # After the test there is nothing left to stop.
                if self.stop.received is not None and not isinstance(record, RunDone):
                    self._stop(self.stop.received)
        except DivergedError as error:
            if self.directory.is_ours():
                with contextlib.suppress(OSError):  # the message says it all, too
                    write_json(self.directory.diverged, dict(error.figures))
            raise
        finally:
            self.progress.close()
            for log in self.logs:
                log.close()

    def _refuse_another_directory(self) -> None:
        if not self.directory.is_ours():
            raise CheckpointError(
                "the run directory was moved or replaced while the run was under way",
                where=str(self.directory.path),
                hint="--resume it where it is now; what is here was not touched",
            )

    def _take(self, record: Record) -> None:
        self.taken += 1
        if self.taken % _RECORDS_PER_RELEASE == 0:
            self.corpus.release()
        self.progress.show(record)
        for log in self.logs:
            log.write(record)
        match record:
            case StepDone() | Evaluating() if self.interval.is_due(self.trainer.train_state.step):
                self._save_last(self.trainer.train_state.step, save_or_warn)
            case EpochDone():
                self._finish_epoch(record)
            case RunDone():
                self._finish(record)

    def _finish_epoch(self, done: EpochDone) -> None:
        self.progress.print_lines([epoch_row(done, self.corpus.tokenizer.unit)])
        if done.best:
            save_or_warn(self.directory.best, self._checkpoint)
        last_epoch = done.epoch >= self.config.training.epochs
        self._save_last(done.step, save_or_fail if last_epoch else save_or_warn)

    def _save_last(self, step: int, save: Callable[[Path, Callable[[], Checkpoint]], bool]) -> None:
        if save(self.directory.last, self._checkpoint):
            keep_numbered(self.directory, step, self.config.run.keep_checkpoints)
        self.interval.restart(step)

    def _finish(self, test: RunDone) -> None:
        self.progress.close()
        self._refuse_another_directory()
        last = self.trainer.train_state.history[-1]
        corpus = self.corpus
        lines = summary(last, test, corpus.tokenizer.unit, corpus.entropy_bounds, self.published)
        self.progress.print_lines(lines)
        try:
            write_json(self.directory.result, self._result(last, test))
        except OSError as error:
            raise CheckpointError(
                f"the result could not be written: {error.strerror or error}",
                where=str(self.directory.result),
                hint="make room, then --resume: it tests again and writes it",
            ) from None
        print(f"\nnext: ptblm eval {shlex.quote(str(self.directory.path))}", file=sys.stderr)

    def _stop(self, signal_number: int) -> None:
        self.progress.close()
        save_or_fail(self.directory.last, self._checkpoint)
        path = shlex.quote(str(self.directory.path))
        raise Interrupted(signal_number, hint=f"ptblm train --resume {path}")

    def _introduction(self) -> list[str]:
        unit = self.corpus.tokenizer.unit
        vocabulary = f"{len(self.corpus.vocabulary):,} {unit}s"
        tokens = f"{len(self.corpus.splits['train'].ids):,} training tokens"
        position = self.trainer.train_state
        lines = [
            f"ptblm {__version__}",
            f"  corpus      {self.corpus.name}: {vocabulary}, {tokens}",
            f"  model       {self.trainer.model.parameter_count():,} parameters",
            f"  cell        {self.config.model.cell.type}, {self.trainer.model.recurrent.kernel}",
            f"  device      {self.device}",
            f"  precision   {self.config.run.precision}",
            f"  run         {self.directory.path}",
        ]
        if self.corpus.split_rule is not None:
            lines.insert(2, f"  split       {self.corpus.split_rule}")
        training = self.config.training
        optimizer = training.optimizer.type
        if optimizer in ("adam", "rmsprop") and training.learning_rate > 0.1:
            lines.append(
                f"  note        {optimizer} wants a training.learning_rate near 0.001; "
                f"here it is {training.learning_rate:g}"
            )
        if position.step:
            lines.append(f"  resumed     after epoch {position.epoch}, step {position.step:,}")
        for split, text in self.corpus.splits.items():
            if text.unknown:
                lines.append(f"  unknown     {text.unknown:,} {unit}s of {split} are <unk> here")
        return lines

    def _checkpoint(self) -> Checkpoint:
        self._refuse_another_directory()
        self.trainer.check_finite()
        self.metrics.sync()
        splits = {split: text.sha256 for split, text in self.corpus.splits.items()}
        return Checkpoint(
            config=self.config.model_dump(),
            vocabulary=self.corpus.vocabulary.as_dict(),
            corpus={"name": self.corpus.name, "sha256": splits},
            **self.trainer.state_dict(),
            metrics_offset=self.metrics.offset,
            versions=self.versions,
        )

    def _result(self, last: EpochDone, test: RunDone) -> dict[str, Any]:
        history = self.trainer.train_state.history
        best = min(history, key=lambda done: done.valid_perplexity)
        return {
            "corpus": self.corpus.name,
            "parameters": self.trainer.model.parameter_count(),
            "epochs": last.epoch,
            "steps": test.step,
            "seed": self.config.training.seed,
            "precision": self.config.run.precision,
            "device": self.device,
            "train_perplexity": last.train_perplexity,
            "valid_perplexity": last.valid_perplexity,
            "best_valid_perplexity": best.valid_perplexity,
            "best_epoch": best.epoch,
            "test_perplexity": test.score.perplexity,
            "test_tokens": test.score.tokens,
            **epoch_bits(last, self.corpus.tokenizer.unit),
            **score_bits(test.score, self.corpus.tokenizer.unit, "test_"),
            "floors": dict(self.corpus.entropy_bounds),
            "training_seconds": sum(done.seconds for done in history),
            "published": [figures._asdict() for figures in self.published],
        }
