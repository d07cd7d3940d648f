"""The sample corpus: reproducible, with an exact entropy bound that no model is below."""

import itertools
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import load_corpus, read_entropy_bound
from ptblm.corpus.layout import SPLITS
from ptblm.run.setup import setup_run
from ptblm.training.records import RunDone
from tests.conftest import REPOSITORY, load_script
from tests.corpus.helpers import data_config


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("make_sample_corpus")


def test_script_reproduces_the_sample_corpus(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["make_sample_corpus.py", str(tmp_path)])
    script.main()
    embedded = REPOSITORY / "data" / "sample"
    for split in SPLITS:
        assert (tmp_path / f"{split}.txt").read_bytes() == (embedded / f"{split}.txt").read_bytes()
    drawn = json.loads((tmp_path / "entropy_bound.json").read_text())["splits"]
    stored = json.loads((embedded / "entropy_bound.json").read_text())["splits"]
    for split in ("valid", "test"):
        assert drawn[split]["perplexity"] == pytest.approx(stored[split]["perplexity"], rel=1e-12)
        assert drawn[split]["sha256"] == stored[split]["sha256"]


def test_grammar_is_a_probability_distribution(script: ModuleType) -> None:
    grammar = script.build_grammar()
    assert grammar.start.sum() == pytest.approx(1)
    np.testing.assert_allclose(grammar.transitions.sum(axis=1), 1)
    np.testing.assert_allclose(grammar.emissions.sum(axis=1), 1)


def test_forward_algorithm_equals_sum_over_hidden_paths(script: ModuleType) -> None:
    """On a grammar of three states and two words, whose paths can be enumerated."""
    source = np.random.default_rng(0)
    start, transitions, emissions = (
        source.dirichlet(np.ones(size), rows) for size, rows in ((3, 1), (3, 3), (2, 3))
    )
    grammar = script.Grammar(["a", "b"], start[0], transitions, emissions)
    for text in itertools.product("ab", repeat=5):
        columns = ["ab".index(word) for word in text]
        total = 0.0
        for path in itertools.product(range(3), repeat=5):
            share = start[0][path[0]] * emissions[path[0], columns[0]]
            for before, after, column in zip(path, path[1:], columns[1:], strict=False):
                share *= transitions[before, after] * emissions[after, column]
            total += share
        nll = script.negative_log_likelihoods(grammar, text)
        assert math.fsum(nll) == pytest.approx(-math.log(total), rel=1e-12)


def test_size_of_the_sample_corpus() -> None:
    corpus = load_corpus(data_config("sample"))
    assert 39_000 < len(corpus.splits["train"].ids) < 42_000
    assert 200 < len(corpus.vocabulary) < 1000
    assert [text.unknown for text in corpus.splits.values()] == [0, 0, 0]
    assert set(corpus.entropy_bounds) == {"valid", "test"}
    for path in (REPOSITORY / "data" / "sample").glob("*.txt"):
        text = path.read_text()
        assert text == text.lower()


def test_sentences_have_long_range_dependencies() -> None:
    """Each opener is followed by its second word, in every sentence."""
    lines = (REPOSITORY / "data" / "sample" / "train.txt").read_text().splitlines()
    sentences = [line.split() for line in lines]
    assert all(("or" in s) == (s[0] == "either") for s in sentences)
    assert all(("then" in s) == (s[0] == "if") for s in sentences)
    distances = [s.index("or") for s in sentences if s[0] == "either"]
    assert np.mean(distances) > 5


def test_entropy_bound_is_for_one_text_and_tokenizer(tmp_path: Path) -> None:
    content = {"tokenizer": "word", "splits": {"test": {"sha256": "abc", "perplexity": 3.5}}}
    (tmp_path / "entropy_bound.json").write_text(json.dumps(content))
    assert read_entropy_bound(tmp_path, "word", "test", "abc") == 3.5
    assert read_entropy_bound(tmp_path, "char", "test", "abc") is None
    assert read_entropy_bound(tmp_path, "word", "test", "abd") is None
    assert read_entropy_bound(tmp_path, "word", "valid", "abc") is None


@pytest.mark.parametrize(
    "content",
    [
        b"[",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b'{"tokenizer": "word", "splits": 5}',
        b'{"tokenizer": "word", "splits": {"test": 3.5}}',
        b'{"tokenizer": "word", "splits": {"test": {"perplexity": 3.5}}}',  # without its sha256
        b'{"tokenizer": "word", "splits": {"test": {"sha256": "abc"}}}',
        b'{"tokenizer": "word", "splits": {"test": {"sha256": ["abc"], "perplexity": 3.5}}}',
        *(
            b'{"tokenizer": "word", "splits": {"test": {"sha256": "abc", "perplexity": %s}}}'
            % perplexity
            for perplexity in (b'"low"', b"null", b"[]", b"0.5", b"NaN", b"1e999", b"9" * 400)
        ),
    ],
    ids=range(17),
)
def test_malformed_entropy_bound_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "entropy_bound.json").write_bytes(content)
    assert read_entropy_bound(tmp_path, "word", "test", "abc") is None


def test_trained_model_is_near_the_entropy_bound_not_below() -> None:
    """A model that sees its targets would be below the bound."""
    overrides = ["data.path=sample", "model.hidden_size=128", "model.num_layers=1"]
    overrides += ["model.dropout=0.25", "training.batch_size=10", "training.epochs=9"]
    overrides += ["training.schedule.full_rate_epochs=5", "training.schedule.decay=0.4"]
    components = setup_run(load_config("small", overrides))
    *_, last = components.trainer.records()
    assert isinstance(last, RunDone)
    assert last.score is not None
    bound = components.corpus.entropy_bounds["test"]
    print(f"\ntest perplexity {last.score.perplexity:.2f} (bound {bound:.2f})")
    assert bound < last.score.perplexity < 1.15 * bound
    for done in components.trainer.train_state.history:
        assert done.valid_perplexity > components.corpus.entropy_bounds["valid"]
