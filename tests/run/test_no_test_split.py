"""A corpus without a test split: the run is trained and validated, and nothing is tested."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.errors import DataError
from ptblm.reporting.console import ConsoleReporter
from ptblm.reporting.published import PublishedResult
from ptblm.reporting.table import summary
from ptblm.run import setup
from ptblm.run.train import train
from ptblm.training.records import RunDone
from tests.in_process import ptblm
from tests.reporting.records import EPOCH
from tests.run.helpers import copy_run, metrics, resume, tiny_config


@pytest.fixture
def no_test_split(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Removes the test split of every corpus that a run loads."""

    def load_without_test(*arguments: Any, **options: Any) -> Corpus:
        corpus = load_corpus(*arguments, **options)
        splits = dict(corpus.splits)
        del splits["test"]
        return dataclasses.replace(corpus, splits=splits)

    monkeypatch.setattr(setup, "load_corpus", load_without_test)
    return monkeypatch


def test_run_without_a_test_split(
    no_test_split: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    result = train(tiny_config("run.tensorboard=true"), run, reporter=ConsoleReporter())
    assert result.test.score is None
    written = json.loads((run / "result.json").read_text())
    for key in ("test_perplexity", "best_test_perplexity", "test_tokens", "test_bits_per_word"):
        assert written[key] is None
    assert written["valid_perplexity"] == result.history[-1].valid_perplexity
    assert metrics(run)[-1]["kind"] == "epoch"
    output, errors = capsys.readouterr()
    assert "no test perplexity: the corpus has no test split\n" in output
    (command,) = (line for line in errors.splitlines() if line.startswith("next: ptblm "))
    code, _, shown = ptblm(*shlex.split(command)[2:])
    assert code == 0
    assert "valid split of sample" in shown

    before = metrics(run)
    resume(run)
    assert metrics(run) == before
    no_test_split.undo()
    resume(run)
    assert metrics(run) == [*before, metrics(run)[-1]]
    assert metrics(run)[-1]["kind"] == "test"


def test_test_split_of_a_run_must_not_disappear(
    finished: Path, tmp_path: Path, no_test_split: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="the test split is missing"):
        resume(copy_run(finished, tmp_path))


def test_published_results_are_compared_without_a_test() -> None:
    lines = summary([EPOCH], RunDone(100, None), "word", {}, [PublishedResult("paper", 5, 4, 3)])
    ours, paper = (line.split() for line in lines[-2:])
    assert ours[-3:] == ["8.00", "4.00", "-"]
    assert paper[-3:] == ["5.00", "4.00", "3.00"]
