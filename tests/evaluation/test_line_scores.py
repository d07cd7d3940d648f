"""Scores of lines: modes, batches, order, and agreement with the score of a whole text."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.corpus.lines import Line, lines_of
from ptblm.corpus.reader import read_text
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.line_scores import Mode, score_lines
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.evaluation.token_scores import Measures
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel

TEXT = "the cat sat\n\na dog ran far\n!ARTICLE\nthe dog\n\n\ncat xyzzy\nthe end"
WORDS = ["<eos>", "<unk>", "the", "cat", "sat", "a", "dog", "ran", "far", "end"]


@pytest.fixture(params=["word", "char", "byte"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "byte":
        return make_tokenizer("byte")
    tokens = WORDS if request.param == "word" else ["<eos>", "<unk>", *"abcdefghijklmnorst z"]
    return make_tokenizer(request.param, Vocabulary(tokens, [1] * len(tokens)))


@pytest.fixture
def model(tokenizer: Tokenizer) -> LanguageModel:
    model = build_model(ModelConfig(hidden_size=8, num_layers=2), len(tokenizer.vocabulary))
    model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(0))
    return model.eval()


def lines(tokenizer: Tokenizer, text: str = TEXT) -> Iterator[Line]:
    return lines_of(bytes_source("text", text.encode()), tokenizer)


def nll(
    model: LanguageModel, tokenizer: Tokenizer, mode: Mode, text: str = TEXT, batch_size: int = 64
) -> list[np.ndarray]:
    context = tokenizer.line_end_id
    scored = score_lines(model, lines(tokenizer, text), mode, context, batch_size=batch_size)
    return [line.scores.nll for line in scored]


def reference(model: LanguageModel, ids: list[int]) -> np.ndarray:
    """-log p of all ids but the first, in one call of the model."""
    text = torch.tensor([ids])
    with torch.inference_mode():
        return model.nll(text[:, :-1], text[:, 1:], model.initial_state(1))[0][0].numpy()


def test_sentences_are_scored_independently(model: LanguageModel, tokenizer: Tokenizer) -> None:
    for line, scores in zip(lines(tokenizer), nll(model, tokenizer, "sentence"), strict=True):
        expected = reference(model, [tokenizer.line_end_id, *line.ids.tolist()])
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_documents_carry_the_state(model: LanguageModel, tokenizer: Tokenizer) -> None:
    first, second, *_, last_two, last = nll(model, tokenizer, "document")
    ids = [line.ids.tolist() for line in lines(tokenizer)]
    context = tokenizer.line_end_id
    np.testing.assert_allclose(first, reference(model, [context, *ids[0]]), rtol=1e-5)
    np.testing.assert_allclose(second, reference(model, [context, *ids[2]]), rtol=1e-5)
    joined = reference(model, [context, *ids[7], *ids[8]])
    np.testing.assert_allclose(np.concatenate([last_two, last]), joined, rtol=1e-5)
    assert len(nll(model, tokenizer, "document")) == 5  # separators are not scored


def test_stream_equals_the_score_of_the_text(model: LanguageModel, tokenizer: Tokenizer) -> None:
    text = TEXT + "\n"
    scores = np.concatenate(nll(model, tokenizer, "stream", text))
    assert np.isnan(scores[0])
    ids = read_text(bytes_source("text", text.encode()), tokenizer).ids
    *_, whole = running_scores(model, on_device(ids, torch.device("cpu")))
    assert whole.tokens == len(scores) - 1
    assert scores[1:].sum() == pytest.approx(whole.nll, rel=1e-12)


@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_batches_and_chunks_do_not_change_scores(
    model: LanguageModel, tokenizer: Tokenizer, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join("the cat sat " * (7 * k % 13) for k in range(50))
    expected = np.concatenate(nll(model, tokenizer, mode, text))
    monkeypatch.setattr("ptblm.evaluation.scorer._ELEMENTS_PER_CHUNK", 1000)
    monkeypatch.setattr("ptblm.evaluation.sequence_scores._ELEMENTS", 1000)
    monkeypatch.setattr("ptblm.evaluation.token_scores._ELEMENTS", 50)
    monkeypatch.setattr("ptblm.evaluation.line_scores._WINDOW", 40)
    for size in (1, 3, 64):
        found = np.concatenate(nll(model, tokenizer, mode, text, size))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_measures_match_the_distribution(model: LanguageModel, tokenizer: Tokenizer) -> None:
    measures = Measures(entropy=True, rank=True, top=3)
    context = tokenizer.line_end_id
    for scored in score_lines(model, lines(tokenizer), "sentence", context, measures=measures):
        ids = torch.tensor([[context, *scored.line.ids.tolist()]])
        with torch.inference_mode():
            features, _ = model.features(ids[:, :-1], model.initial_state(1))
            logits = model.head.log_probs(features[:, 0]).double()
        p = logits.softmax(1)
        entropy = -(p * p.log()).sum(1)
        assert scored.scores.entropy is not None
        assert scored.scores.top_nll is not None
        np.testing.assert_allclose(scored.scores.entropy, entropy, rtol=1e-5)
        target = logits.gather(1, ids[0, 1:, None])
        np.testing.assert_array_equal(scored.scores.rank, (logits > target).sum(1) + 1)
        top = logits.topk(3, dim=1)
        np.testing.assert_array_equal(scored.scores.top_ids, top.indices)
        np.testing.assert_allclose(scored.scores.top_nll, -top.values, rtol=1e-5)


def test_states_predict_their_tokens(model: LanguageModel, tokenizer: Tokenizer) -> None:
    """The state in each row, continued by the model's head, gives the score of the row."""
    measures = Measures(states=True)
    for mode in ("sentence", "stream"):
        context = tokenizer.line_end_id
        for scored in score_lines(model, lines(tokenizer), mode, context, measures=measures):
            assert scored.scores.states is not None
            assert scored.scores.states.shape == (len(scored.line.ids), 2 * 2 * 8)
            output = torch.from_numpy(scored.scores.states[:, 16:24])  # h of the highest layer
            targets = torch.from_numpy(scored.line.ids)
            with torch.inference_mode():
                expected = model.head.nll(output, targets)
            known = ~np.isnan(scored.scores.nll)
            found = scored.scores.nll[known]
            np.testing.assert_allclose(found, expected[torch.from_numpy(known)], rtol=1e-5)


def test_lines_are_yielded_as_soon_as_they_are_read(
    model: LanguageModel, tokenizer: Tokenizer
) -> None:
    taken: list[Line] = []

    def recorded() -> Iterator[Line]:
        for line in lines(tokenizer):
            taken.append(line)
            yield line

    for mode in ("stream", "sentence"):
        taken.clear()
        context = tokenizer.line_end_id
        for scored in score_lines(model, recorded(), mode, context, eager=True):
            assert scored.line is taken[-1]


def test_empty_text_has_no_lines(model: LanguageModel, tokenizer: Tokenizer) -> None:
    for mode in ("stream", "sentence", "document"):
        assert list(score_lines(model, [], mode, tokenizer.line_end_id)) == []
