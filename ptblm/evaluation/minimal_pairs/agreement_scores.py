"""Judges number agreement: the right against the wrong form of a word within one long text.

The hidden state is carried over the whole text, and the model always reads on with the word that is
in the text, as in Gulordava et al. (2018).
"""

import numpy as np
import torch
from numpy.typing import NDArray

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.minimal_pairs.agreement import AgreementText
from ptblm.evaluation.minimal_pairs.judgments import Judgment, judgment
from ptblm.evaluation.minimal_pairs.spans import Reader, ScoreKind, span_score
from ptblm.evaluation.scorer import default_chunk_steps
from ptblm.evaluation.sequence_scores import score_piece
from ptblm.evaluation.token_scores import Measures
from ptblm.model.language_model import LanguageModel


def judge_agreement(
    reader: Reader,
    text: AgreementText,
    kind: ScoreKind = "sum",
    unigram: NDArray[np.float64] | None = None,
) -> list[Judgment]:
    """Returns the judgment of each line of a text.

    See `judge_pairs` for the arguments.

    Raises:
        DataError: if a word is unknown and the vocabulary does not contain `<unk>`.
    """
    judgments, position = [], _Position(reader.model)
    for line in text.lines:
        place = line.pair.place
        before = reader.line(reader.part(line.before, first=True), line.before, place).ids[:-1]
        rest = reader.line(reader.part(line.rest, last=True), line.rest, place).ids
        is_first = not line.before
        forms = [
            reader.line(reader.part(form, first=is_first), form, place).ids[:-1]
            for form in (line.right, line.wrong)
        ]
        position.read(before)
        nll = position.nll(forms)
        right, wrong = (span_score(*each, kind, unigram) for each in zip(nll, forms, strict=True))
        sentences = [
            reader.line(reader.tokens(sentence), sentence, place)
            for sentence in (line.pair.good, line.pair.bad)
        ]
        same = np.array_equal(forms[0], forms[1])
        judgments.append(judgment(line.pair, sentences, (right, wrong), same=same))
        position.read(rest)
        reader.progress(1)
    return judgments


class _Position:
    """A position in a text: the hidden state before the last token, and that token."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._hidden_state = model.initial_state(1)
        self._last: Ids = np.empty(0, dtype=np.int64)

    def read(self, ids: Ids) -> None:
        """Moves to the end of the next tokens, [N]."""
        inputs = np.concatenate([self._last, ids]).astype(np.int64)
        self._last, inputs = inputs[-1:], inputs[:-1]
        device = next(self._model.parameters()).device
        steps = default_chunk_steps(self._model)
        with torch.inference_mode():
            for start in range(0, len(inputs), steps):
                piece = torch.from_numpy(inputs[None, start : start + steps]).int().to(device)
                _, self._hidden_state = self._model.features(piece, self._hidden_state)

    def nll(self, continuations: list[Ids]) -> list[NDArray[np.float64]]:
        """Returns -log p in nats of the tokens of each continuation, without moving."""
        found: dict[bytes, NDArray[np.float64]] = {b"": np.empty(0)}
        for ids in continuations:
            if not len(ids) or ids.tobytes() in found:
                continue
            inputs = np.concatenate([self._last, ids[:-1]])
            (scores,), _ = score_piece(
                self._model,
                inputs[None],
                ids[None],
                np.array([len(ids)]),
                self._hidden_state,
                Measures(),
            )
            found[ids.tobytes()] = scores.nll
        return [found[ids.tobytes()] for ids in continuations]
