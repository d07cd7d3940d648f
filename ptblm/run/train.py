"""Conducts training: owns the run directory, pulls records, saves, reports, heeds signals."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ptblm import __version__
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.errors import CheckpointError, Interrupted
from ptblm.files import write_json, write_text
from ptblm.reporting.environment import describe_environment
from ptblm.reporting.metrics import MetricsFile
from ptblm.reporting.progress import Progress
from ptblm.reporting.published import published_figures
from ptblm.reporting.table import epoch_row, header, summary
from ptblm.reporting.tensorboard import TensorBoard
from ptblm.run.assemble import Assembly, assemble
from ptblm.run.directory import RunDirectory, create_run_directory, open_run_directory
from ptblm.run.resume import go_to_checkpoint, refuse_changes
from ptblm.run.signals import StopSignal
from ptblm.training.checkpoint import (
    Checkpoint,
    current_versions,
    load_checkpoint,
    save_checkpoint,
)
from ptblm.training.records import EpochDone, Record, RunDone, StepDone


def start_run(
    config: Config, name: str, run_dir: Path | None, *, overwrite: bool, command: list[str]
) -> None:
    """Trains from the beginning.

    Args:
        config: of the run.
        name: of its directory, where `run_dir` does not say.
        run_dir: where it is kept; None lets `name` decide.
        overwrite: whether a run that is there already is deleted first.
        command: as typed, for the record.

    Raises:
        PtblmError: of any kind; `Interrupted` after a signal, with all saved.
    """
    with StopSignal() as stop:
        assembly = assemble(config)
        directory = create_run_directory(run_dir, name, overwrite=overwrite)
        write_text(directory.config, config_document(assembly.config))
        environment = describe_environment(command, config.training.seed)
        write_json(directory.environment, environment)
        _Run(assembly, directory, stop, metrics_offset=0).conduct()


def resume_run(run_dir: Path, overrides: Sequence[str]) -> None:
    """Goes on with a run from its last checkpoint, as if it had never stopped.

    Args:
        run_dir: of the run.
        overrides: "key=value" texts; only of keys that leave what was done as it was.

    Raises:
        PtblmError: as `start_run` does; `ConfigError` for a key that may not change.
    """
    with StopSignal() as stop:
        directory = open_run_directory(run_dir)
        checkpoint = load_checkpoint(directory.last)
        config = override_config(checkpoint.parsed_config(), overrides)
        refuse_changes(checkpoint.parsed_config(), config)
        assembly = assemble(config)
        go_to_checkpoint(assembly, checkpoint, directory.last)
        directory.result.unlink(missing_ok=True)
        write_text(directory.config, config_document(assembly.config))
        _Run(assembly, directory, stop, metrics_offset=checkpoint.metrics_offset).conduct()


class _Run:
    """A run under way."""

    def __init__(
        self, assembly: Assembly, directory: RunDirectory, stop: StopSignal, metrics_offset: int
    ) -> None:
        self.config = assembly.config
        self.corpus = assembly.corpus
        self.trainer = assembly.trainer
        self.device = assembly.device
        self.directory = directory
        self.stop = stop
        log_every = self.config.training.log_every
        self.metrics = MetricsFile(directory.metrics, metrics_offset, log_every)
        self.logs: list[MetricsFile | TensorBoard] = [self.metrics]
        if self.config.training.tensorboard:
            first_step = self.trainer.position.step + 1
            self.logs.append(TensorBoard(directory.tensorboard, first_step, log_every))
        self.progress = Progress(self.config.training.epochs, self.corpus.floors)
        self.published = published_figures(self.config, self.corpus)
        self.interval = CheckpointInterval(self.config.training.checkpoint_every)

    def conduct(self) -> None:
        """Trains to the end, or until a signal."""
        print("\n".join(self._introduction()), file=sys.stderr, flush=True)
        rows = [epoch_row(done) for done in self.trainer.position.history]
        print("\n".join(header(self.corpus.floors) + rows), flush=True)
        try:
            for record in self.trainer.records():
                self._take(record)
                # After the test there is nothing left to stop.
                if self.stop.received is not None and not isinstance(record, RunDone):
                    self._stop(self.stop.received)
        finally:
            self.progress.close()
            for log in self.logs:
                log.close()

    def _take(self, record: Record) -> None:
        self.progress.show(record)
        for log in self.logs:
            log.write(record)
        match record:
            case StepDone() if self.interval.is_due(record.step):
                self._save(self.directory.last)
            case EpochDone():
                self.progress.print_row(epoch_row(record))
                if record.best:
                    self._save(self.directory.best)
                if record.epoch < self.config.training.epochs:
                    self._save(self.directory.last)
                else:
                    self._save_finally()
            case RunDone():
                self._finish(record)

    def _introduction(self) -> list[str]:
        words = f"{len(self.corpus.vocabulary):,} words"
        tokens = f"{len(self.corpus.splits['train'].ids):,} training tokens"
        position = self.trainer.position
        lines = [
            f"ptblm {__version__}",
            f"  corpus      {self.corpus.name}: {words}, {tokens}",
            f"  model       {self.trainer.model.parameter_count():,} parameters",
            f"  device      {self.device}",
            f"  precision   {self.config.training.precision}",
            f"  run         {self.directory.path}",
        ]
        if position.step:
            lines.append(f"  resumed     in epoch {position.epoch + 1}, after step {position.step}")
        for split, text in self.corpus.splits.items():
            if text.unknown_words:
                lines.append(f"  note        {text.unknown_words:,} unknown words in {split}")
        return lines

    def _checkpoint(self) -> Checkpoint:
        splits = {split: text.sha256 for split, text in self.corpus.splits.items()}
        return Checkpoint(
            config=self.config.model_dump(),
            vocabulary=list(self.corpus.vocabulary.words),
            corpus={"name": self.corpus.name, "sha256": splits},
            trainer=self.trainer.state_dict(),
            metrics_offset=self.metrics.offset,
            versions=current_versions(),
        )

    def _save(self, path: Path) -> None:
        """Saves; a disk that refuses in the middle of a run is no reason to stop it."""
        try:
            save_checkpoint(path, self._checkpoint())
        except (OSError, CheckpointError) as error:
            print(f"warning: {path} was not saved ({error}); going on", file=sys.stderr)
        self.interval.restart(self.trainer.position.step)

    def _save_finally(self) -> None:
        """Saves where nothing comes after that could make up for a failure."""
        try:
            save_checkpoint(self.directory.last, self._checkpoint())
        except OSError as error:
            raise CheckpointError(
                f"the last checkpoint could not be saved: {error.strerror or error}",
                where=str(self.directory.last),
                hint="the one before is intact: make room, then --resume",
            ) from None

    def _stop(self, signal_number: int) -> None:
        self._save_finally()
        self.progress.close()
        raise Interrupted(
            signal_number,
            hint=f"ptblm train --resume {self.directory.path}",
        )

    def _finish(self, test: RunDone) -> None:
        self.progress.close()
        last = self.trainer.position.history[-1]
        write_json(self.directory.result, self._result(last, test))
        print("\n".join(summary(last, test, self.corpus.floors, self.published)))
        print(f"\nnext: ptblm eval {self.directory.path}", file=sys.stderr)

    def _result(self, last: EpochDone, test: RunDone) -> dict[str, Any]:
        best = min(self.trainer.position.history, key=lambda done: done.valid_perplexity)
        return {
            "corpus": self.corpus.name,
            "parameters": self.trainer.model.parameter_count(),
            "epochs": last.epoch,
            "steps": test.step,
            "seed": self.config.training.seed,
            "precision": self.config.training.precision,
            "device": self.device,
            "train_perplexity": last.train_perplexity,
            "valid_perplexity": last.valid_perplexity,
            "best_valid_perplexity": best.valid_perplexity,
            "best_epoch": best.epoch,
            "test_perplexity": test.score.perplexity,
            "test_tokens": test.score.tokens,
            "floors": dict(self.corpus.floors),
            "training_seconds": sum(done.seconds for done in self.trainer.position.history),
            "published": [figures._asdict() for figures in self.published],
        }


class CheckpointInterval:
    """When the next checkpoint is due.

    Args:
        every: "5 minutes" or "200 steps".
    """

    def __init__(self, every: str) -> None:
        number, unit = every.split()
        self._steps = int(number) if unit.startswith("step") else None
        self._seconds = None if self._steps else 60.0 * int(number)
        self._last_step = 0
        self._last_time = time.monotonic()

    def is_due(self, step: int) -> bool:
        """Whether so many steps or minutes have passed since the last."""
        if self._steps is not None:
            return step - self._last_step >= self._steps
        return self._seconds is not None and time.monotonic() - self._last_time >= self._seconds

    def restart(self, step: int) -> None:
        """Counts from here."""
        self._last_step = step
        self._last_time = time.monotonic()
