"""Compares the models of runs on the same text, sentence by sentence."""

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.batches import count_streams
from ptblm.corpus.layout import Split
from ptblm.corpus.lines import lines_of
from ptblm.errors import UsageError
from ptblm.evaluation.bootstrap import RatioInterval, perplexity_ratio
from ptblm.progress_bar import ProgressBar
from ptblm.run.evaluated_text import read_evaluated_split
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.score import Scoring, score


class _Sentences(NamedTuple):
    """The scores of the sentences of a text, S of them.

    Attributes:
        path: the checkpoint.
        nll: -log p of each sentence in nats, [S].
        tokens: number of its tokens, [S].
        vocabulary: the tokenizer and the tokens of the model.
        sha256: hash of the ids of the text.
    """

    path: Path
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
    show_progress: bool = False,
) -> list[RatioInterval]:
    """Returns the ratio of the perplexity of each run to that of another run.

    Args:
        other: the run directory or checkpoint to compare with.
        runs: run directories or checkpoints.
        split: the split of the corpus, which is scored as one stream.
        data: the corpus; None selects the corpus of each run.
        cell: the custom cell of the checkpoints, which the caller agrees to run.
        device_name: "auto", "cpu", "cuda", "cuda:N" or "mps".
        show_progress: whether to show a progress bar on a terminal.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded, or its corpus may not be read.
        DataError: if the text cannot be read.
        UsageError: if the models have different tokens or texts, or the device is not available.
    """
    intervals = []
    total = 1 + sum(not _is_same(run, other) for run in runs)
    with ProgressBar(total) if show_progress else nullcontext() as bar:
        done = 0

        def score_run(path: Path, comparable: _Sentences | None = None) -> _Sentences:
            nonlocal done

            def show(share: float) -> None:
                if bar is not None:
                    bar.show(done + share, [f"{split} split: {path}", f"{share:.0%}"])

            loaded = load_trusted_model(path, device_name, cell)
            scored = _score(loaded, split, data, comparable, show)
            done += 1
            return scored

        second = score_run(other)
        for run in runs:
            first = second if _is_same(run, other) else score_run(run, second)
            intervals.append(perplexity_ratio(first.nll, second.nll, first.tokens))
    return intervals


def _is_same(path: Path, other: Path) -> bool:
    return os.path.realpath(path) == os.path.realpath(other)


def _score(
    loaded: LoadedModel,
    split: Split,
    data: str | None,
    comparable: _Sentences | None,
    show: Callable[[float], None],
) -> _Sentences:
    """Returns the scores of the sentences of a split that contain a target.

    Args:
        loaded: the model.
        split: the split.
        data: the corpus; None selects the corpus of the run.
        comparable: scores that the result must be comparable with, if any.
        show: is called with the share of the text that is scored.

    Raises:
        UsageError: if the tokens or the text are not those of `comparable`.
    """
    tokenizer = loaded.tokenizer
    vocabulary = (tokenizer.name, tokenizer.vocabulary.symbols)
    if comparable is not None and comparable.vocabulary != vocabulary:
        raise UsageError(
            "the perplexities cannot be compared: its vocabulary differs from that of "
            f"{comparable.path}",
            where=str(loaded.path),
            hint="a model with fewer words predicts more <unk>, which is easier; train both on "
            "the same corpus with the same tokenizer",
        )
    text = read_evaluated_split(loaded, split, data)
    if comparable is not None and comparable.sha256 != text.encoded.sha256:
        raise UsageError(
            f"its {split} split is another text than that of {comparable.path}",
            where=str(loaded.path),
            hint="pass the text for both as --data",
        )
    total = len(text.encoded.ids)
    count_streams(total, 1, 1, f"{split} split")
    nll, tokens, done = [], [], 0
    for scored in score(loaded, lines_of(text.source, tokenizer), Scoring(mode="stream")):
        values = scored.scores.nll[~np.isnan(scored.scores.nll)]  # the first token has no context
        if len(values):
            nll.append(values.sum())
            tokens.append(len(values))
        done += len(scored.line.ids)
        show(min(done / total, 1))
    return _Sentences(loaded.path, np.array(nll), np.array(tokens), vocabulary, text.encoded.sha256)
