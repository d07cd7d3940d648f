"""Evaluation of a model on the valid and test splits of a run."""

from collections.abc import Generator, Mapping

import torch
from torch import Tensor

from ptblm.backend.distributed import ONE_PROCESS, World
from ptblm.backend.precision import Precision
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import count_streams
from ptblm.corpus.layout import Split
from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.score import Score
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.model.language_model import LanguageModel
from ptblm.training.records import Evaluating, Record


def evaluation_texts(
    valid: Ids, test: Ids | None, config: TrainingConfig, device: torch.device
) -> dict[Split, tuple[Tensor, int]]:
    """Returns the ids and the number of streams of each split, on the device.

    Args:
        valid: token ids of the valid split, [N].
        test: token ids of the test split, [N]; None for no test.
        config: the training config.
        device: the device of the run.

    Raises:
        DataError: if valid or test has fewer than two tokens.
    """
    count = count_streams(len(valid), config.batch_size, config.num_steps, "valid split")
    texts: dict[Split, tuple[Tensor, int]] = {"valid": (on_device(valid, device), count)}
    if test is not None:
        texts["test"] = on_device(test, device), count_streams(len(test), 1, 1, "test split")
    return texts


def evaluate(
    model: LanguageModel,
    split: Split,
    text: tuple[Tensor, int],
    special_ids: Mapping[str, int],
    precision: Precision,
    *,
    of_best: bool,
    world: World = ONE_PROCESS,
) -> Generator[Record, None, Score]:
    """Yields progress and returns the score of a split, in fp32.

    Args:
        model: the model.
        split: name of the split.
        text: token ids, [N], and the number of streams.
        special_ids: ids of the special tokens that are also scored separately, by token.
        precision: the precision of the run.
        of_best: whether the model is that of the best epoch.
        world: the processes that share the streams of the text.
    """
    score = Score()
    model.eval()  # disables dropout in custom cells; ptblm's dropout requires a generator
    with precision.full_precision():
        for score in running_scores(model, *text, special_ids=special_ids, world=world):
            yield Evaluating(split, score, len(text[0]) - 1, of_best=of_best)
    model.train()
    return score
