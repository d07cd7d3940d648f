"""Finds the weights with which the model of a checkpoint lowers the word error rate most."""

import logging
from dataclasses import dataclass

import numpy as np

from ptblm.corpus.lines import text_name
from ptblm.corpus.references import read_references
from ptblm.errors import DataError
from ptblm.evaluation.combination import Candidates
from ptblm.evaluation.tune_rescoring import TunedWeights, tune
from ptblm.evaluation.word_errors import word_errors
from ptblm.run.rescore import load, rescored_utterances, warn_without_scores
from ptblm.run.rescore_request import Request, check

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuneResult:
    """The result of a search for weights.

    Attributes:
        tuned: the weights and the word errors.
        words: words of the references.
        utterances: number of utterances.
        hypotheses: number of hypotheses.
    """

    tuned: TunedWeights
    words: int
    utterances: int
    hypotheses: int


def tune_weights(request: Request, reference: str) -> TuneResult:
    """Finds the weights with the lowest word error rate.

    Weights that the request contains stay as they are. All scores are kept in memory.

    Args:
        request: what to rescore.
        reference: the file of the references; see `corpus/references.py`.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        DataError: if a file cannot be read or is damaged, or a reference is missing.
        UsageError: if the request is contradictory, the device is not available, or memory runs
            out.
    """
    check(request, reference)
    warn_without_scores(request)
    loaded = load(request)
    utterances: list[str] = []
    starts: list[int] = []
    texts: list[tuple[str, str]] = []
    parts: list[Candidates] = []
    for utterance in rescored_utterances(request, loaded):
        utterances.append(utterance.hypotheses[0].utterance)
        starts.append(len(texts))
        texts += [(each.utterance, each.text) for each in utterance.hypotheses]
        parts.append(utterance.candidates)
    references = read_references(reference, dict.fromkeys(utterances))
    if others := len(references) - len(utterances):
        logger.info("%s references are about utterances without hypotheses", f"{others:,}")
    words = sum(len(references[utterance]) for utterance in utterances)
    if words == 0:
        raise DataError("the references contain no words", where=text_name(reference))
    errors = [word_errors(text.split(), references[utterance]) for utterance, text in texts]
    candidates = Candidates(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("acoustic", "old", "new", "length", "graph")
        )
    )
    given = {"weight": request.weight, "scale": request.scale, "penalty": request.penalty}
    fixed = [name for name, value in given.items() if value is not None]
    tuned = tune(candidates, np.array(errors), np.array(starts), request.weights, fixed)
    return TuneResult(tuned, words, len(utterances), len(texts))
