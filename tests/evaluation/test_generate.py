"""Generated sequences: distribution, seeds, batches, prompts, length, and their scores."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ptblm.config.model import ModelConfig
from ptblm.corpus.lines import lines_of
from ptblm.corpus.source import bytes_source
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.generate import (
    MAX_SEED,
    Length,
    Sample,
    Step,
    draw_tokens,
    generate,
    in_float64,
    read_prompt,
)
from ptblm.evaluation.line_scores import score_lines
from ptblm.evaluation.sampling import Sampling
from ptblm.evaluation.sequence_scores import score_sequences
from ptblm.evaluation.stepwise import next_log_probs
from ptblm.evaluation.token_scores import Measures, concatenate
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ["<eos>", "<unk>", "the", "cat", "sat", "a", "dog", "ran", "far", "end"]
EMPTY = np.zeros(0, dtype=np.int64)


def build(size: int, **options: Any) -> LanguageModel:
    model = build_model(ModelConfig(**{"hidden_size": 8, "num_layers": 2} | options), size)
    model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(0))
    return model.eval()


@pytest.fixture
def model() -> LanguageModel:
    return in_float64(build(10))


def samples(
    model: LanguageModel,
    numbers: range,
    *,
    length: Length,
    seed: int = 1,
    prompt: list[int] | None = None,
    **options: Any,
) -> list[Sample]:
    start = read_prompt(model, np.array(prompt or [], dtype=np.int64), 0)
    return list(generate(model, start, numbers, seed=seed, length=length, line_end=0, **options))


def test_frequencies_match_a_known_distribution() -> None:
    model = build(5)
    p = torch.tensor([0.05, 0.4, 0.1, 0.25, 0.2])
    nn.init.zeros_(model.head.weight)
    model.head.bias.data = p.log()
    count = 20_000
    found = samples(model, range(200), length=Length(count // 200), batch_size=200)
    ids = torch.tensor([sample.ids for sample in found])
    frequency = torch.bincount(ids.flatten(), minlength=5) / count
    assert ((frequency - p).abs() < 4 * (p * (1 - p) / count).sqrt()).all()
    # Tokens are independent of the tokens before them and of those of other samples.
    both = torch.outer(p, p).flatten()
    for table in (ids, ids.t()):
        flat = table.flatten()
        pairs = torch.bincount(5 * flat[:-1] + flat[1:], minlength=25) / count
        assert ((pairs - both).abs() < 5 * (both / count).sqrt()).all()


@pytest.mark.parametrize("options", [{}, {"cell": {"type": "gru"}}])
def test_surprisal_of_samples_equals_the_entropy(options: dict[str, Any]) -> None:
    """The mean surprisal of 20,000 own tokens, within 3 standard errors."""
    model = build(10, **options)
    found = samples(model, range(20), length=Length(1000))
    sequences = [np.array(sample.ids) for sample in found]
    scores = concatenate(score_sequences(model, sequences, 0, measures=Measures(entropy=True)))
    nll = np.concatenate([sample.nll for sample in found])
    assert len(nll) == 20_000
    np.testing.assert_allclose(scores.nll, nll, rtol=1e-4, atol=1e-5)
    # Given the tokens before it, a surprisal has the entropy as its mean, so the differences are
    # uncorrelated.
    assert scores.entropy is not None
    differences = nll - scores.entropy
    error = differences.std() / math.sqrt(len(differences))
    assert abs(differences.mean()) < 3 * error
    assert error < 0.02


@pytest.mark.parametrize(
    ("cell", "start"),
    [
        ("lstm", "zeros"),
        ("lstm", "learned"),
        ("gru", "ones"),
        ("mogrifier", "zeros"),
        ("sru", "zeros"),
    ],
)
def test_batch_of_64_equals_64_single_samples(cell: str, start: str) -> None:
    model = in_float64(build(30, cell=cell, initial_state=start))
    length = Length(40, line_ends=2)
    rules = Sampling(temperature=1.2, top_p=0.99)
    options: dict[str, Any] = {"length": length, "prompt": [3, 4], "sampling": rules}
    batch = samples(model, range(64), batch_size=64, **options)
    single = [samples(model, range(n, n + 1), **options)[0] for n in range(64)]
    assert [sample.ids for sample in batch] == [sample.ids for sample in single]
    for one, other in zip(batch, single, strict=True):
        np.testing.assert_allclose(one.nll, other.nll, rtol=1e-9)
    assert len({len(sample.ids) for sample in batch}) > 5
    odd = samples(model, range(64), batch_size=7, **options)
    assert [sample.ids for sample in batch] == [sample.ids for sample in odd]
    assert [sample.number for sample in odd] == list(range(64))


def test_large_vocabulary_reduces_the_batch(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = samples(model, range(20), length=Length(10))
    rows = []

    def counting(*arguments: Any) -> Any:
        rows.append(len(arguments[1]))
        return next_log_probs(*arguments)

    monkeypatch.setattr("ptblm.evaluation.generate.next_log_probs", counting)
    monkeypatch.setattr("ptblm.evaluation.generate._ELEMENTS", 70)
    found = samples(model, range(20), length=Length(10))
    assert [sample.ids for sample in found] == [sample.ids for sample in expected]
    assert set(rows) == {7, 6}


def test_seed_and_number_determine_a_sample(model: LanguageModel) -> None:
    length = Length(30)
    first = samples(model, range(10), length=length)
    assert samples(model, range(10), length=length) == first
    some = samples(model, range(5, 8), length=length)
    assert [sample.ids for sample in some] == [sample.ids for sample in first[5:8]]
    texts = {
        tuple(sample.ids)
        for seed in (0, 1, 2, 2**63, MAX_SEED)
        for sample in samples(model, range(10), length=length, seed=seed)
    }
    assert len(texts) == 50


def test_length_counts_tokens_or_line_ends(model: LanguageModel) -> None:
    for sample in samples(model, range(20), length=Length(17)):
        assert len(sample.ids) == len(sample.nll) == 17
    for sample in samples(model, range(20), length=Length(1000, line_ends=2)):
        assert sample.ids.count(0) == 2
        assert sample.ids[-1] == 0
    model.head.bias.data[0] = -1e9
    for sample in samples(model, range(3), length=Length(50, line_ends=1)):
        assert len(sample.ids) == 50
        assert 0 not in sample.ids


def test_greedy_rules_give_the_same_text(model: LanguageModel) -> None:
    start = read_prompt(model, EMPTY, 0)
    tokens, hidden_state, expected = torch.tensor([start.token]), start.hidden_state, []
    for _ in range(50):
        log_probs, hidden_state = next_log_probs(model, tokens, hidden_state)
        tokens = log_probs.argmax(1)
        expected.append(int(tokens))
    for rules in (Sampling(temperature=0), Sampling(temperature=1e-6), Sampling(top_k=1)):
        for sample in samples(model, range(3), length=Length(50), sampling=rules):
            assert sample.ids == expected


def test_excluded_tokens_never_occur(model: LanguageModel) -> None:
    rules = Sampling(excluded=(1,))
    found = samples(model, range(50), length=Length(100), sampling=rules)
    unrestricted = samples(model, range(50), length=Length(100))
    assert any(1 in sample.ids for sample in unrestricted)
    assert not any(1 in sample.ids for sample in found)
    # The first token of all samples has the same distribution, which is renormalized.
    start = read_prompt(model, EMPTY, 0)
    log_probs, _ = next_log_probs(model, torch.tensor([0]), start.hidden_state)
    p = log_probs[0].exp().numpy()
    p[1] = 0
    p /= p.sum()
    firsts = [
        sample.ids[0] for sample in samples(model, range(4000), length=Length(1), sampling=rules)
    ]
    frequency = np.bincount(firsts, minlength=10) / 4000
    assert (np.abs(frequency - p) < 4 * np.sqrt(p / 4000) + 1e-9).all()


def test_scores_do_not_depend_on_the_rules(model: LanguageModel) -> None:
    """They are those of the model itself, at temperature 1."""
    rules = Sampling(excluded=(1,), temperature=0.7, top_k=6, top_p=0.9)
    for sample in samples(model, range(5), length=Length(30), sampling=rules):
        (scores,) = score_sequences(model, [np.array(sample.ids)], 0)
        np.testing.assert_allclose(sample.nll, scores.nll, rtol=1e-9)


@pytest.fixture(params=["word", "char", "byte"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    if request.param == "byte":
        return make_tokenizer("byte")
    tokens = WORDS if request.param == "word" else ["<eos>", "<unk>", *"abcdefghijklmnorst z"]
    return make_tokenizer(request.param, Vocabulary(tokens, [1] * len(tokens)))


def test_text_that_is_scored_again_has_its_score(tokenizer: Tokenizer) -> None:
    """The decoded text is read as lines, and the state is carried from line to line."""
    model = in_float64(build(len(tokenizer.vocabulary)))
    line_end, unk = tokenizer.line_end_id, tokenizer.vocabulary.unk_id
    rules = Sampling(() if unk is None or tokenizer.name == "word" else (unk,))
    start = read_prompt(model, EMPTY, line_end)
    options: dict[str, Any] = {"length": Length(2000, line_ends=3), "line_end": line_end}
    for sample in generate(model, start, range(5), seed=3, sampling=rules, **options):
        text = tokenizer.decode(np.array(sample.ids)).encode("utf-8", "surrogateescape")
        ids = np.concatenate([line.ids for line in lines_of(bytes_source("", text), tokenizer)])
        assert ids.tolist() == sample.ids
        (scores,) = score_sequences(model, [ids], line_end)
        assert scores.nll.sum() == pytest.approx(sum(sample.nll), rel=1e-9)
        lines = list(lines_of(bytes_source("", text), tokenizer))
        if not any(line.divides_documents for line in lines):
            scored = score_lines(model, lines, "document", line_end)
            total = sum(line.scores.nll.sum() for line in scored)
            assert total == pytest.approx(sum(sample.nll), rel=1e-9)


def test_prompt_is_read_before_the_first_token(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = [2, 3, 4, 0, 5, 6]
    start = read_prompt(model, np.array(prompt, dtype=np.uint8), 0)
    (scores,) = score_sequences(model, [np.array(prompt)], 0)
    assert start.nll == pytest.approx(scores.nll.sum(), rel=1e-9)
    (sample,) = samples(model, range(1), length=Length(20), prompt=prompt)
    (scores,) = score_sequences(model, [np.array(prompt + sample.ids)], 0)
    np.testing.assert_allclose(sample.nll, scores.nll[len(prompt) :], rtol=1e-9)
    for steps in (1, 2, 3, 6):  # long prompts are read in pieces
        monkeypatch.setattr("ptblm.evaluation.generate.default_chunk_steps", lambda _, n=steps: n)
        assert read_prompt(model, np.array(prompt), 0).nll == pytest.approx(start.nll, rel=1e-9)
        (again,) = samples(model, range(1), length=Length(20), prompt=prompt)
        assert again.ids == sample.ids


def test_steps_are_yielded_as_soon_as_they_are_drawn(model: LanguageModel) -> None:
    start = read_prompt(model, EMPTY, 0)
    steps = draw_tokens(model, start, [0, 1], seed=1, length=Length(10**12), line_end=0)
    some: list[Step] = list(itertools.islice(steps, 5))
    expected = samples(model, range(2), length=Length(5))
    assert [[int(step.ids[row]) for step in some] for row in (0, 1)] == [
        sample.ids for sample in expected
    ]


def test_model_is_not_modified() -> None:
    model = build(10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wide = in_float64(model)
    samples(wide, range(3), length=Length(10))
    assert all(tensor.dtype == torch.float64 for tensor in wide.state_dict().values())
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


def test_cell_without_float64_is_used_in_fp32(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = build(10)
    cell = type(model.recurrent.layers[0].cell)
    monkeypatch.setattr(
        cell, "initial_state", lambda _, batch: (torch.zeros(batch, 8), torch.zeros(batch, 8))
    )
    caplog.set_level("INFO", "ptblm")
    assert in_float64(model) is model
    assert "does not support float64" in caplog.text
    assert len(samples(model, range(3), length=Length(10))) == 3


def test_probabilities_that_are_not_finite_are_an_error(model: LanguageModel) -> None:
    model.head.bias.data[:] = float("nan")
    for rules in (Sampling(), Sampling(temperature=0), Sampling(top_k=3, top_p=0.5)):
        with pytest.raises(FloatingPointError, match="not finite"):
            samples(model, range(2), length=Length(3), sampling=rules)
