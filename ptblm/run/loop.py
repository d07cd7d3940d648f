"""The main loop of a run: reports records, saves checkpoints and stops on signals."""

import contextlib
import signal

from ptblm.backend.distributed import ONE_PROCESS
from ptblm.checkpoint.format import Checkpoint, current_versions
from ptblm.errors import CheckpointError, DivergedError, Interrupted
from ptblm.files import os_errors
from ptblm.json_files import write_json
from ptblm.reporting.metrics import MetricsFile
from ptblm.reporting.reporter import Reporter, RunInfo, RunResult
from ptblm.reporting.result import result_document
from ptblm.reporting.tensorboard import TensorBoard
from ptblm.run import best
from ptblm.run.directory import RunDirectory
from ptblm.run.hints import diverged_command, resume_command
from ptblm.run.lock import write_errors
from ptblm.run.processes import agreed_requests, errors_of_all, is_of_test
from ptblm.run.saving import CheckpointSaver
from ptblm.run.setup import RunComponents
from ptblm.run.signals import SaveSignal, StopSignal
from ptblm.training.divergence import check_finite
from ptblm.training.records import RunDone

# Steps keep pages of a memory-mapped text in memory: a few MB in 1,000 records.
_RECORDS_PER_RELEASE = 1000


def run_loop(
    components: RunComponents,
    directory: RunDirectory,
    stop: StopSignal,
    save: SaveSignal,
    metrics_offset: int,
    reporter: Reporter,
) -> RunResult:
    """Trains until the end of the run or until a stop signal.

    Args:
        components: the components of the run.
        directory: the locked run directory.
        stop: records whether a stop signal was received.
        save: records whether a signal requested a checkpoint.
        metrics_offset: bytes of metrics.jsonl that belong to completed steps.
        reporter: shows the run.

    Raises:
        Interrupted: after a stop signal. The state was saved.
        DivergedError: if training diverged. diverged.json was written, and all checkpoints are
            unchanged.
        CheckpointError: if the last checkpoint or the result cannot be saved.
    """
    config, corpus, trainer = components.config, components.corpus, components.trainer
    info = run_info(components, directory)
    with contextlib.ExitStack() as stack:
        step, log_every = trainer.train_state.step, config.run.log_every
        with errors_of_all(trainer.world), write_errors(directory.path):
            metrics = MetricsFile(directory.metrics, metrics_offset, log_every, info.unit)
            stack.callback(metrics.close)
            logs: list[MetricsFile | TensorBoard | Reporter] = [reporter, metrics]
            if config.run.tensorboard or config.run.histograms:
                model = trainer.model if config.run.histograms else None
                places = directory.tensorboard, step + 1, log_every
                logs.append(TensorBoard(*places, config, model, trainer.train_state.history))
                stack.callback(logs[-1].close)
        stack.callback(reporter.close)
        reporter.start(info)

        def make_checkpoint() -> Checkpoint:
            check_finite(trainer)
            if directory.is_in_place():  # otherwise the path could be that of another run
                metrics.sync()
            return Checkpoint(
                config=config.model_dump(),
                vocabulary=corpus.vocabulary.as_dict(),
                corpus={"name": corpus.name, "sha256": components.corpus_hashes()},
                metrics_offset=metrics.offset,
                versions=current_versions(),
                computing=components.computing(),
                **trainer.state_dict(),
            )

        saver = CheckpointSaver(directory, config.run, make_checkpoint, trainer)
        try:
            for number, record in enumerate(best.records(components, directory.best), start=1):
                for log in logs:
                    log.write(record)
                if isinstance(record, RunDone):
                    saver.check_place()
                    return _finish(info, components, directory, record, reporter)
                due, timeout = saver.is_due(record), config.run.timeout
                requests = agreed_requests(trainer, record, stop, save, timeout, is_due=due)
                if any(requests):
                    with errors_of_all(ONE_PROCESS if is_of_test(record) else trainer.world):
                        if requests.is_due:
                            saver.write(record)
                        if requests.stop:
                            saver.save_now()
                        elif requests.save:
                            saver.save_requested(signal.Signals(requests.save).name)
                if requests.stop:
                    raise Interrupted(requests.stop, hint=resume_command(directory.path))
                if number % _RECORDS_PER_RELEASE == 0:
                    corpus.release()
        except DivergedError as error:
            if directory.is_in_place():
                with contextlib.suppress(OSError):  # the error message has the same content
                    write_json(directory.diverged, dict(error.metrics))
                error.hint = f"use a lower learning rate: {diverged_command(directory, config)}"
            raise
    raise AssertionError("a trainer always yields RunDone")


def run_info(components: RunComponents, directory: RunDirectory) -> RunInfo:
    """Returns the description of a run for reporters."""
    config, corpus, trainer = components.config, components.corpus, components.trainer
    return RunInfo(
        path=directory.path,
        config=config,
        corpus=corpus,
        unit=corpus.tokenizer.unit,
        parameters=trainer.model.parameter_count(),
        device=components.device,
        computing=components.computing(),
        train_state=trainer.train_state,
        initial_weights=None if components.initial is None else str(components.initial),
        learning_rate=None if trainer.is_trained else trainer.next_learning_rate(),
    )


def _finish(
    info: RunInfo,
    components: RunComponents,
    directory: RunDirectory,
    test: RunDone,
    reporter: Reporter,
) -> RunResult:
    """Writes result.json and reports the result."""
    result = RunResult(info, components.trainer.train_state.history, test, directory.best)
    reporter.finish(result)
    with os_errors(
        CheckpointError,
        "the result could not be written",
        where=directory.result,
        hint=f"then repeat the test: {resume_command(directory.path)}",
    ):
        write_json(directory.result, result_document(result))
    return result
