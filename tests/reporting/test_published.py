"""Published results are shown for the shipped recipes on the Penn Treebank only."""

import dataclasses
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.evaluation.score import Score
from ptblm.reporting.published import published_results
from ptblm.reporting.table import summary
from ptblm.training.records import EpochDone, RunDone
from tests.corpus.helpers import data_config


@pytest.fixture(scope="module")
def ptb(ptb_directory: Path) -> Corpus:
    return load_corpus(data_config(ptb_directory))


@pytest.mark.parametrize(
    ("name", "test"), [("small", 115.91), ("medium", 82.07), ("large", 78.29), ("test", None)]
)
def test_shipped_recipe_has_published_results(name: str, test: float | None, ptb: Corpus) -> None:
    """Seed and run keys are not part of the recipe."""
    overrides = ["training.seed=9", "run.precision=bf16", "run.checkpoint_every=3 steps"]
    results = published_results(load_config(name, overrides), ptb)
    assert [result.test for result in results][:1] == ([] if test is None else [test])


@pytest.mark.parametrize(
    "change", ["model.hidden_size=201", "training.epochs=12", "data.vocabulary.size=5000"]
)
def test_changed_recipe_has_none(change: str, ptb: Corpus) -> None:
    assert published_results(load_config("small", [change]), ptb) == []


def test_other_text_has_none(ptb: Corpus) -> None:
    text = dataclasses.replace(ptb.splits["test"], sha256="0" * 64)
    other = dataclasses.replace(ptb, splits={**ptb.splits, "test": text})
    assert published_results(load_config("small"), other) == []
    assert published_results(load_config("small"), load_corpus(data_config("sample"))) == []


@pytest.mark.parametrize("tokenizer", ["char", "byte"])
def test_other_tokenizer_has_none(tokenizer: str, ptb_directory: Path) -> None:
    if tokenizer == "char" and not (ptb_directory / "ptb.char.train.txt").is_file():
        pytest.skip(f"needs the Penn Treebank's character files in {ptb_directory}")
    corpus = load_corpus(data_config(ptb_directory, tokenizer))
    config = load_config("small", [f"data.tokenizer={tokenizer}"])
    assert published_results(config, corpus) == []


def test_summary_compares_run_with_published_results(ptb: Corpus) -> None:
    last = EpochDone(13, 30199, 0.5, 41.1, 119.58, 197.4, 4707.3, best=True)
    test = RunDone(30199, Score(nll=4.7455 * 82429, tokens=82429))
    lines = summary([last], test, "word", {}, published_results(load_config("small"), ptb))
    assert "test perplexity 115.07, 4.7455 nats per token, 82,429 tokens" in lines
    first = lines.index(f"{'perplexity':<32}{'train':>9}{'valid':>9}{'test':>9}") + 1
    ours, tutorial = (line.split() for line in lines[first : first + 2])
    assert ours[-3:] == ["41.10", "119.58", "115.07"]
    assert tutorial[-3:] == ["37.99", "121.39", "115.91"]
