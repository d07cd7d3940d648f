"""Rescores n-best lists with the model of a checkpoint."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ptblm.corpus.lines import text_name
from ptblm.corpus.nbest import espnet
from ptblm.corpus.nbest.hypothesis import Output, Utterance
from ptblm.corpus.nbest.srilm import utterance_of
from ptblm.corpus.unknown_words import read_unknown_words
from ptblm.errors import CheckpointError, DataError, UsageError
from ptblm.evaluation.rescoring import (
    Scored,
    UnknownRule,
    constant_score,
    score_utterances,
    word_probabilities,
)
from ptblm.files import os_errors, replacing
from ptblm.reporting.rescored import (
    Rescored,
    best_rows,
    list_rows,
    ranked,
    rescored,
    score_rows,
    srilm_word_score_rows,
    word_score_rows,
)
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.memory import memory_errors
from ptblm.run.mixing import check_words, mixed
from ptblm.run.rescore_request import Request, check

logger = logging.getLogger(__name__)

# A list with a larger share of unknown words does not fit the vocabulary.
_MAX_UNKNOWN = 1 / 3


def rescore(request: Request, output: Output | None = None) -> Iterator[str]:
    """Yields the rows of the output, in bounded memory.

    Args:
        request: what to rescore.
        output: what to print; None for the default of the format.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        DataError: if a list cannot be read or is damaged.
        UsageError: if the request is contradictory, the device is not available, or memory runs
            out.
    """
    output = output or request.format.default_output
    check(request)
    if output in ("best", "trn", "nbest"):
        warn_without_scores(request)
    if output == "nbest" and request.format_name == "espnet":
        raise UsageError(
            "ESPnet's n-best lists are directories",
            hint="pass --to DIR, or --output best, which prints the best hypotheses",
        )
    if output == "nbest" and request.format_name == "srilm" and len(request.nbest) > 1:
        raise UsageError(
            "SRILM's n-best lists are one file for each utterance",
            hint="pass --to DIR, or --output best, which prints the best hypotheses",
        )
    loaded = load(request)
    if output == "word-scores" and request.format_name == "srilm":
        check_words(loaded, "--output word-scores --format srilm")
    yield from _rows(request, loaded, output)


def write_lists(request: Request, directory: Path) -> None:
    """Writes rescored n-best lists of SRILM or ESPnet to a directory, under their own names.

    Args:
        request: what to rescore.
        directory: the directory, which is created. Existing files are an error.

    Raises:
        UsageError, CheckpointError, DataError: as `rescore`; also if a file exists or cannot be
            written.
    """
    check(request)
    if request.format_name not in ("srilm", "espnet"):
        raise UsageError(
            f"--to cannot be used with --format {request.format_name}",
            hint="redirect the output to a file",
        )
    loaded = load(request)
    with os_errors(UsageError, "the n-best list cannot be written", fallback=directory):
        directory.mkdir(parents=True, exist_ok=True)
        if request.format_name == "espnet":
            if any(directory.glob("*best_recog")):
                raise UsageError("the directory contains n-best lists", where=str(directory))
            espnet.write(directory, ranked(rescored_utterances(request, loaded), request.format))
            return
        targets = {
            utterance_of(path): directory / Path(text_name(path)).name.removesuffix(".gz")
            for path in request.nbest
        }
        for target in targets.values():
            if target.exists():
                raise UsageError("the file exists", where=str(target), hint="pass another --to")
        for utterance in rescored_utterances(request, loaded):
            with replacing(targets[utterance.hypotheses[0].utterance]) as file:
                for row in list_rows([utterance], request.format):
                    file.write(f"{row}\n".encode("utf-8", "surrogateescape"))


def warn_without_scores(request: Request) -> None:
    """Warns if a list has no scores of the recognizer, so that the language model alone decides."""
    if request.format_name == "kaldi" and request.costs is None:
        logger.warning(
            "the lists contain no scores of the recognizer, so only the language model is used; "
            "pass its scores with --costs"
        )


@memory_errors(
    "while the model was loaded", hint="pass --device cpu, or use a machine with more memory"
)
def load(request: Request) -> LoadedModel:
    """Loads the model of a request.

    Raises:
        CheckpointError: if there is no checkpoint or it cannot be loaded.
        UsageError: if the device is not available, or the model cannot be mixed.
    """
    loaded = load_trusted_model(request.checkpoint, request.device_name, request.cell)
    if request.mix is not None:
        check_words(loaded, "--mix")
    return loaded


def _rows(request: Request, loaded: LoadedModel, output: Output) -> Iterator[str]:
    utterances = rescored_utterances(request, loaded)
    is_kaldi = request.format_name == "kaldi"
    match output:
        case "scores":
            return score_rows(utterances, negate=is_kaldi)
        case "word-scores" if request.format_name == "srilm":
            name = text_name(request.nbest[0]) if len(request.nbest) == 1 else "nbest"
            return srilm_word_score_rows(utterances, name, loaded.tokenizer.vocabulary.unk_id)
        case "word-scores":
            return word_score_rows(utterances, request.log_base, negate=is_kaldi)
        case "best":
            has_ids = request.format_name != "nemo"
            return best_rows(utterances, form="text" if has_ids else "words")
        case "trn":
            return best_rows(utterances, form="trn")
        case "nbest":
            return list_rows(utterances, request.format)


def rescored_utterances(request: Request, loaded: LoadedModel) -> Iterator[Rescored]:
    """Yields the rescored utterances, then reports the unknown words.

    Raises:
        CheckpointError: if the scores are not numbers.
        DataError: if a list cannot be read or is damaged.
        UsageError: if memory runs out.
    """
    words = unknown = 0
    with memory_errors(
        "while the lists were rescored", hint="pass --device cpu, or shorter n-best lists"
    ):
        for scored in _scored(request, loaded):
            words += sum(len(each.line.tokens) for each in scored)
            unknown += sum(int(each.line.unknown.sum()) for each in scored)
            if any(np.isnan(each.nll).any() for each in scored):
                raise CheckpointError(
                    "the weights give no finite score",
                    where=str(loaded.path),
                    hint="use another checkpoint",
                )
            yield rescored(scored, request.weights, request.log_base)
    if unknown:
        level = logging.WARNING if unknown > _MAX_UNKNOWN * words else logging.INFO
        unit = loaded.tokenizer.unit
        logger.log(
            level,
            "%s of %s %ss (%.1f%%) are not in the vocabulary",
            f"{unknown:,}",
            f"{words:,}",
            unit,
            100 * unknown / words,
        )


def _scored(request: Request, loaded: LoadedModel) -> Iterator[list[Scored]]:
    scored = score_utterances(
        loaded.model,
        loaded.tokenizer,
        _not_empty(request),
        carry=request.carry,
        rule=_unknown_rule(request),
    )
    if request.mix is None:
        return scored
    return _mixed(scored, request.mix, request.mix_weight)


def _not_empty(request: Request) -> Iterator[Utterance]:
    utterance = None
    for utterance in request.format.read(request.nbest, request.read_options):
        yield utterance
    if utterance is None:
        where = text_name(request.nbest[0])
        raise DataError("the n-best list is empty", where=where)


def _unknown_rule(request: Request) -> UnknownRule | None:
    if request.unk_penalty is not None:
        return constant_score(-request.unk_penalty * request.log_base)
    if request.unk_probs is not None:
        return word_probabilities(read_unknown_words(request.unk_probs))
    return None


def _mixed(
    scored: Iterator[list[Scored]], path: str, weight: float | None
) -> Iterator[list[Scored]]:
    """Yields the utterances with mixed scores."""
    sentences = (
        ((each, len(utterance)), each.line.tokens, each.nll, each.hypothesis.where)
        for utterance in scored
        for each in utterance
    )
    group: list[Scored] = []
    for (each, size), nll in mixed(sentences, path, weight):
        group.append(replace(each, nll=nll))
        if len(group) == size:
            yield group
            group = []
