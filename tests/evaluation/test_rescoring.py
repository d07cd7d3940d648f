"""Scores of hypotheses: equal to Kaldi's, with a carried state, and rules for unknown words."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.corpus.nbest import FORMATS
from ptblm.corpus.nbest.hypothesis import Hypothesis, ReadOptions, Utterance
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.combination import Weights
from ptblm.evaluation.rescoring import (
    constant_score,
    score_utterances,
    word_probabilities,
)
from ptblm.model.build import build_model
from ptblm.model.cells.lstm import LSTMCell
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.reporting.rescored import rescored, score_rows, word_score_rows

GOLDEN = Path(__file__).parents[1] / "golden" / "nbest"
WEIGHTS = Weights(0.5, 1.0, 0.0)


@pytest.fixture
def tokenizer() -> Tokenizer:
    words = np.load(GOLDEN / "kaldi_model.npz")["vocab"].tolist()
    words[0] = "<eos>"  # Kaldi's <s> is both the first input and the last target
    return make_tokenizer("word", Vocabulary(words, [1] * len(words)))


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    """The model of the golden files: weights of a class of Kaldi."""
    arrays = {
        name: torch.from_numpy(array)
        for name, array in np.load(GOLDEN / "kaldi_model.npz").items()
        if name != "vocab"
    }
    model = build_model(ModelConfig(hidden_size=8, num_layers=2), len(tokenizer.vocabulary))
    with torch.no_grad():
        model.embedding.weight.copy_(arrays["encoder.weight"])
        model.head.weight.copy_(arrays["decoder.weight"])
        model.head.bias.copy_(arrays["decoder.bias"])
        for index, layer in enumerate(model.recurrent.layers):
            assert isinstance(layer, RecurrentLayer)
            assert isinstance(layer.cell, LSTMCell)
            gates = layer.cell.gates
            gates.weight_ih.copy_(arrays[f"rnn.weight_ih_l{index}"])
            gates.weight_hh.copy_(arrays[f"rnn.weight_hh_l{index}"])
            gates.bias.copy_(arrays[f"rnn.bias_ih_l{index}"] + arrays[f"rnn.bias_hh_l{index}"])
    return model.eval()


def lists() -> list[Utterance]:
    return list(FORMATS["kaldi"].read([str(GOLDEN / "kaldi.txt")], ReadOptions()))


def utterance(*texts: str) -> Utterance:
    return [
        Hypothesis("u", number, text, len(text.split()), 0.0, 0.0, text, "", "", "list:1")
        for number, text in enumerate(texts, start=1)
    ]


@pytest.mark.parametrize("carry", ["none", "carry"])
def test_word_scores_equal_those_of_kaldi(
    model: LanguageModel, tokenizer: Tokenizer, carry: str
) -> None:
    scored = score_utterances(model, tokenizer, lists(), carry=carry == "carry")
    utterances = [rescored(each, WEIGHTS, 1.0) for each in scored]
    ours = word_score_rows(utterances, 1.0, negate=True)
    expected = (GOLDEN / f"kaldi_{carry}.scores").read_text().splitlines()
    sums = []
    for row, other in zip(ours, expected, strict=True):
        name, *scores = row.split()
        other_name, *other_scores = other.split()
        assert name == other_name
        difference = np.array(scores, float) - np.array(other_scores, float)
        assert np.abs(difference).max() < 1.01e-4  # one unit of the last printed digit
        sums.append(np.array(other_scores, float).sum())
    totals = [float(row.split()[1]) for row in score_rows(utterances, negate=True)]
    np.testing.assert_allclose(totals, sums, atol=1e-3)


def test_golden_files_differ_between_carrying_and_not() -> None:
    carried, alone = ((GOLDEN / f"kaldi_{name}.scores").read_text() for name in ("carry", "none"))
    assert carried.splitlines()[:10] == alone.splitlines()[:10]
    assert sum(map(str.__ne__, carried.splitlines(), alone.splitlines())) > 800


def test_hypothesis_without_words_scores_the_end_alone(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    ((empty, spaces),) = score_utterances(model, tokenizer, [utterance("", "  ")])
    eos = tokenizer.line_end_id
    with torch.inference_mode():
        features, _ = model.features(torch.tensor([[eos]]), model.initial_state(1))
        expected = -model.head.log_probs(features[:, 0])[0, eos].item()
    assert empty.nll == pytest.approx([expected], rel=1e-6)
    assert spaces.nll == pytest.approx([expected], rel=1e-6)


def test_windows_do_not_change_scores(
    model: LanguageModel, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores() -> np.ndarray:
        scored = score_utterances(model, tokenizer, lists())
        return np.concatenate([each.nll for group in scored for each in group])

    expected = scores()
    monkeypatch.setattr("ptblm.evaluation.rescoring._WINDOW", 1)
    np.testing.assert_allclose(scores(), expected, rtol=1e-5)


def test_lists_are_scored_while_they_are_read(model: LanguageModel, tokenizer: Tokenizer) -> None:
    def endless() -> Iterator[Utterance]:
        while True:
            yield utterance("the old farmer", "the farmer")

    for carry in (False, True):
        scored = score_utterances(model, tokenizer, endless(), carry=carry)
        assert len(next(scored)) == 2


def test_unknown_words_can_have_a_constant_score(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    lists = [utterance("the zither sees <unk>", "the boat")]
    ((plain, known),) = score_utterances(model, tokenizer, lists)
    ((changed, same),) = score_utterances(model, tokenizer, lists, rule=constant_score(7.5))
    assert changed.nll[[1, 3]].tolist() == [7.5, 7.5]
    assert changed.nll[[0, 2, 4]].tolist() == plain.nll[[0, 2, 4]].tolist()
    assert same.nll.tolist() == known.nll.tolist()


def test_unknown_words_can_have_their_own_probability(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    lists = [utterance("the zither sees alpacas")]
    rule = word_probabilities({"zither": math.log(0.25), "sees": math.log(0.5)})
    ((plain,),) = score_utterances(model, tokenizer, lists)
    ((changed,),) = score_utterances(model, tokenizer, lists, rule=rule)
    difference = changed.nll - plain.nll
    np.testing.assert_allclose(difference, [0, math.log(4), 0, 7 * math.log(10), 0], atol=1e-12)
