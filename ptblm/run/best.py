"""Tests the checkpoint of the best epoch at the end of a run, if the best epoch is not the last."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from ptblm.checkpoint.format import load_checkpoint
from ptblm.errors import PtblmError
from ptblm.model.language_model import LanguageModel
from ptblm.run.load_model import model_from_checkpoint
from ptblm.run.setup import RunComponents
from ptblm.training.records import Record, RunDone, best_epoch

logger = logging.getLogger(__name__)


def records(components: RunComponents, path: Path) -> Iterator[Record]:
    """Yields the records of a run; adds the test score of the best epoch to the last record.

    If the checkpoint of the best epoch cannot be used, a warning is logged, and the last record is
    unchanged.

    Args:
        components: the components of the run.
        path: the checkpoint of the best epoch.
    """
    trainer = components.trainer
    for record in trainer.records():
        done = record
        if isinstance(record, RunDone) and record.score is not None:
            model = _best_model(components, path)
            if model is not None:
                score = yield from trainer.evaluate("test", best=model)
                done = replace(record, best_score=score)
        yield done


def _best_model(components: RunComponents, path: Path) -> LanguageModel | None:
    """Returns the model of the best epoch; None if that is the last epoch or cannot be loaded."""
    config, history = components.config, components.trainer.train_state.history
    best = best_epoch(history)
    if best is history[-1]:
        return None
    try:
        checkpoint = load_checkpoint(path)
        # The history identifies the epoch and the run.
        if checkpoint.train_state.get("history") != list(map(asdict, history[: best.epoch])):
            raise PtblmError("it is not the checkpoint of this epoch")
        model = model_from_checkpoint(checkpoint, config.model, path, fused=config.run.fused)
    except PtblmError as error:
        logger.warning(f"the best epoch, {best.epoch}, was not tested: {path}: {error.what}")
        return None
    return model.to(components.device.device)
