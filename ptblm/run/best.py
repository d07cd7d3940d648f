"""Tests the checkpoint of the best epoch at the end of a run, if the best epoch is not the last."""

import logging
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ptblm.checkpoint.format import load_checkpoint
from ptblm.errors import CheckpointError, PtblmError
from ptblm.evaluation.score import Score
from ptblm.run.load_model import model_from_checkpoint
from ptblm.run.memory import memory_errors
from ptblm.run.setup import RunComponents
from ptblm.training.records import EpochDone, Record, RunDone, best_epoch

logger = logging.getLogger(__name__)


def records(components: RunComponents, path: Path) -> Iterator[Record]:
    """Yields the records of a run; adds the test score of the best epoch to the last record.

    If the checkpoint of the best epoch cannot be tested, a warning is logged, and the last record
    is unchanged.

    Args:
        components: the components of the run.
        path: the checkpoint of the best epoch.
    """
    trainer = components.trainer
    for record in trainer.records():
        done = record
        if isinstance(record, RunDone) and record.score is not None:
            history = trainer.train_state.history
            best = best_epoch(history)
            if best is not history[-1]:
                score = yield from _test(components, path, history[: best.epoch])
                done = replace(record, best_score=score)
        yield done


def _test(
    components: RunComponents, path: Path, history: list[EpochDone]
) -> Generator[Record, None, Score | None]:
    """Yields progress and returns the test score of a checkpoint; None if that fails.

    Args:
        components: the components of the run.
        path: the checkpoint.
        history: the epochs of the run up to the checkpoint.
    """
    config = components.config
    try:
        with memory_errors("in the test", hint="evaluate the checkpoint with --device cpu"):
            checkpoint = load_checkpoint(path)
            # The history identifies both the epoch and the run.
            if checkpoint.train_state.get("history") != [asdict(done) for done in history]:
                raise CheckpointError("it is not the checkpoint of this epoch")
            model = model_from_checkpoint(checkpoint, config.model, path, fused=config.run.fused)
            del checkpoint  # frees the state of the optimizer
            model.to(components.device.device)
            return (yield from components.trainer.evaluate("test", model, of_best=True))
    except PtblmError as error:
        logger.warning(f"the best epoch, {len(history)}, was not tested: {path}: {error.what}")
        return None
