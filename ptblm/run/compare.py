"""Compares the models of runs on the same text, sentence by sentence."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.layout import Split
from ptblm.corpus.lines import lines_of
from ptblm.errors import UsageError
from ptblm.evaluation.bootstrap import RatioInterval, perplexity_ratio
from ptblm.run.agreement import check_corpus, check_known_corpus
from ptblm.run.evaluated_text import read_evaluated_split
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.score import Scoring, score
from ptblm.run.text_config import text_config


class _Sentences(NamedTuple):
    """The scores of the sentences of a text, S of them.

    Attributes:
        nll: -log p of each sentence in nats, [S].
        tokens: number of its tokens, [S].
        vocabulary: the tokenizer and the tokens of the model.
        sha256: hash of the ids of the text.
    """

    nll: NDArray[np.float64]
    tokens: NDArray[np.int64]
    vocabulary: tuple[str, Sequence[str]]
    sha256: str


def ratios_to(
    other: Path,
    runs: Sequence[Path],
    *,
    split: Split = "test",
    data: str | None = None,
    cell: str | None = None,
    device_name: str = "auto",
) -> list[RatioInterval]:
    """Returns the ratio of the perplexity of each run to that of another run.

    Args:
        other: the run directory or checkpoint to compare with.
        runs: run directories or checkpoints.
        split: the split of the corpus, which is scored as one stream.
        data: the corpus; None selects the corpus of each run.
        cell: the custom cell of the checkpoints, which the caller agrees to run.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        CheckpointError: if a checkpoint cannot be loaded, or its corpus may not be read.
        DataError: if the text cannot be read.
        UsageError: if the models have different tokens or texts, or the device is not available.
    """
    score_run = partial(_score, split=split, data=data, cell=cell, device_name=device_name)
    second = score_run(other)
    intervals = []
    for run in runs:
        first = score_run(run)
        if first.vocabulary != second.vocabulary:
            raise UsageError(
                f"its perplexity cannot be compared with that of {other}: the vocabularies differ",
                where=str(run),
                hint="a model with fewer words predicts more <unk>, which is easier; train both on "
                "the same corpus with the same tokenizer",
            )
        if first.sha256 != second.sha256:
            raise UsageError(
                f"its {split} split is another text than that of {other}",
                where=str(run),
                hint="pass the text for both as --data",
            )
        intervals.append(perplexity_ratio(first.nll, second.nll, first.tokens))
    return intervals


def _score(
    path: Path, *, split: Split, data: str | None, cell: str | None, device_name: str
) -> _Sentences:
    loaded: LoadedModel = load_trusted_model(path, device_name, cell)
    config = text_config(loaded.config.data, [], data=data, is_other_text=False)
    if data is None:
        check_known_corpus(loaded.corpus, loaded.path, "--data")
        check_corpus(config, loaded.path)
    tokenizer = loaded.tokenizer
    text = read_evaluated_split(tokenizer, config, split)
    nll, tokens = [], []
    for scored in score(loaded, lines_of(text.source, tokenizer), Scoring(mode="stream")):
        values = scored.scores.nll if scored.line.has_end else scored.scores.nll[:-1]
        values = values[~np.isnan(values)]  # the first token has no context
        nll.append(values.sum())
        tokens.append(len(values))
    vocabulary = (tokenizer.name, tokenizer.vocabulary.tokens)
    return _Sentences(np.array(nll), np.array(tokens), vocabulary, text.encoded.sha256)
