"""Evaluation: scores do not depend on chunk size, and token counts are exact."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptblm.config.dropout import DropoutConfig
from ptblm.config.model import ModelConfig
from ptblm.corpus.batches import count_streams
from ptblm.evaluation.score import Score, perplexity
from ptblm.evaluation.scorer import _chunks, running_scores
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel

SPECIAL_IDS = {"<unk>": 3, "<eos>": 5}


def make_model(vocab_size: int, hidden_size: int, scale: float) -> LanguageModel:
    model = build_model(ModelConfig(hidden_size=hidden_size, num_layers=1), vocab_size)
    model.initialize(Initializer("uniform", scale), torch.Generator().manual_seed(0))
    return model


def score(model: LanguageModel, ids: torch.Tensor, chunk_steps: int | None = None) -> Score:
    *_, last = running_scores(model, ids, special_ids=SPECIAL_IDS, chunk_steps=chunk_steps)
    return last


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    model = build_model(
        ModelConfig(hidden_size=8, num_layers=2, dropout=DropoutConfig.everywhere(0.5)),
        vocab_size=17,
    )
    model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(17, (1001,), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def one_chunk(model: LanguageModel, ids: torch.Tensor) -> Score:
    """The score of the text when one chunk contains it all."""
    return score(model, ids)


@pytest.mark.parametrize("chunk_steps", [1, 7, 35, 999, 1000, 5000])
def test_chunk_size_does_not_change_score(
    model: LanguageModel, ids: torch.Tensor, one_chunk: Score, chunk_steps: int
) -> None:
    chunked = score(model, ids, chunk_steps)
    assert chunked.tokens == one_chunk.tokens == 1000
    assert chunked.perplexity == pytest.approx(one_chunk.perplexity, rel=1e-6)
    for token in SPECIAL_IDS:
        assert chunked.part(token).tokens == one_chunk.part(token).tokens > 0
        assert chunked.part(token).nll == pytest.approx(one_chunk.part(token).nll, rel=1e-6)


class RecordingModel:
    """Records all pairs of input and target; its hidden state is the last target of a stream."""

    def __init__(self) -> None:
        self.head = torch.nn.Linear(1, 1)
        self.pairs: list[tuple[int, int]] = []

    def initial_state(self, batch_size: int) -> Any:
        return ((torch.full((batch_size, 1), -1),),)

    def nll(self, inputs: torch.Tensor, targets: torch.Tensor, state: Any) -> Any:
        carried = state[0][0][:, 0].tolist()
        assert len(carried) == len(inputs)
        for last, first in zip(carried, inputs[:, 0].tolist(), strict=True):
            assert last in (-1, first)  # the text continues where the state was computed
        self.pairs += zip(inputs.flatten().tolist(), targets.flatten().tolist(), strict=True)
        return torch.ones(targets.shape), ((targets[:, -1:],),)


@given(st.integers(2, 600), st.integers(1, 50), st.integers(1, 50), st.integers(1, 70))
def test_every_token_but_the_first_is_a_target_once(
    tokens: int, batch_size: int, num_steps: int, chunk_steps: int
) -> None:
    model: Any = RecordingModel()
    streams = count_streams(tokens, batch_size, num_steps, "text")
    *_, last = running_scores(model, torch.arange(tokens), streams, chunk_steps=chunk_steps)
    assert sorted(model.pairs) == list(pairwise(range(tokens)))
    assert last.tokens == tokens - 1


@pytest.mark.parametrize("streams", [1, 3, 13, 1000])
def test_score_equals_sum_over_streams(
    model: LanguageModel, ids: torch.Tensor, streams: int
) -> None:
    """With 3 or 13 streams, the last one is longer: it also has the rest of the text."""
    *_, parallel = running_scores(model, ids, streams, special_ids=SPECIAL_IDS, chunk_steps=50)
    length = 1000 // streams
    ends = [*(length * stream for stream in range(1, streams)), 1000]
    parts = [score(model, ids[a : b + 1]) for a, b in pairwise([0, *ends])]
    expected = sum(parts, Score())
    assert parallel.tokens == expected.tokens == 1000
    assert parallel.nll == pytest.approx(expected.nll, rel=1e-6)
    for token in SPECIAL_IDS:
        assert parallel.part(token).tokens == expected.part(token).tokens > 0
        assert parallel.part(token).nll == pytest.approx(expected.part(token).nll, rel=1e-6)


def test_streams_are_views_of_the_text() -> None:
    """A long text that is mapped from a file must not be copied."""
    ids = torch.zeros(10_000, dtype=torch.uint8)
    chunks = list(_chunks(ids, 7, 100, slice(0, 7)))
    storage = ids.untyped_storage().data_ptr()
    assert all(chunk.untyped_storage().data_ptr() == storage for chunk in chunks)
    assert [len(chunk) for chunk in chunks] == [7] * 15 + [1]


def test_score_equals_sum_over_single_tokens(
    model: LanguageModel, ids: torch.Tensor, one_chunk: Score
) -> None:
    hidden_state = model.initial_state(1)
    total, parts = 0.0, dict.fromkeys(SPECIAL_IDS, 0.0)
    with torch.no_grad():
        for current, target in pairwise(ids.tolist()):
            inputs, targets = torch.tensor([[current]]), torch.tensor([[target]])
            nll, hidden_state = model.nll(inputs, targets, hidden_state)
            total += nll.item()
            for token, index in SPECIAL_IDS.items():
                parts[token] += nll.item() * (target == index)
    assert one_chunk.nll == pytest.approx(total, rel=1e-6)
    for token, index in SPECIAL_IDS.items():
        count = (ids[1:] == index).sum().item()
        assert one_chunk.part(token).tokens == count > 0
        assert one_chunk.part(token).nll == pytest.approx(parts[token], rel=1e-6)
        without = one_chunk.without(token)
        assert without is not None
        mean = (total - parts[token]) / (1000 - count)
        assert without.perplexity == pytest.approx(math.exp(mean), rel=1e-6)


@pytest.mark.parametrize(("vocab_size", "hidden_size"), [(2000, 4), (17, 500)])
def test_chunk_size_is_bounded_by_widest_tensor(vocab_size: int, hidden_size: int) -> None:
    """Logits are the widest tensor with a large vocabulary, and gates with a small one."""
    model = make_model(vocab_size, hidden_size, scale=0.1)
    ids = torch.zeros(5001, dtype=torch.int64)
    first = next(running_scores(model, ids))
    assert first.tokens == 2**22 // 2000


def test_nats_bits_and_perplexity_agree() -> None:
    score = Score(nll=20 * math.log(8), tokens=20)
    assert score.nats == pytest.approx(math.log(8))
    assert score.bits == pytest.approx(3)
    assert score.perplexity == pytest.approx(8)


def test_score_without_its_only_token_is_none() -> None:
    assert Score(3.0, 2, {"<unk>": Score(3.0, 2)}).without("<unk>") is None


def test_score_without_unknown_part_is_unchanged() -> None:
    assert Score(3.0, 2).without("<eos>") == Score(3.0, 2)


@pytest.mark.parametrize("size", [256, 51])
def test_uniform_model_needs_log2_v_bits(size: int) -> None:
    uniform = make_model(size, hidden_size=4, scale=0.0)
    ids = torch.arange(2 * size).remainder(size)
    last = score(uniform, ids)
    assert last.bits == pytest.approx(math.log2(size), rel=1e-6)
    without = last.without("<eos>")
    assert without is not None
    assert without.bits == pytest.approx(math.log2(size), rel=1e-6)


def test_perplexity_overflow_is_infinite() -> None:
    assert perplexity(1e6, 1) == math.inf
