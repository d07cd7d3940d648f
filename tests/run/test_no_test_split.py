"""A corpus without a test split: the run is trained and validated, and nothing is tested."""

import json
import shlex
import shutil
from pathlib import Path

import pytest

from ptblm.errors import DataError
from ptblm.reporting.console import ConsoleReporter
from ptblm.reporting.published import PublishedResult
from ptblm.reporting.table import summary
from ptblm.run.train import train
from ptblm.training.records import RunDone
from tests.conftest import REPOSITORY
from tests.in_process import ptblm
from tests.reporting.records import EPOCH
from tests.run.helpers import copy_run, metrics, resume, tiny_config
from tests.run.overfitting import BEST_EPOCH, overfitting_config, write_random_corpus

SAMPLE = REPOSITORY / "data" / "sample"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The sample corpus without its test split."""
    return Path(
        shutil.copytree(SAMPLE, tmp_path / "corpus", ignore=shutil.ignore_patterns("test.txt"))
    )


def test_run_without_a_test_split(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = tiny_config(f"data.path={corpus}", "run.tensorboard=true")
    result = train(config, run, reporter=ConsoleReporter())
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
    assert "valid split of corpus" in shown


def test_resumed_run_may_get_a_test_split(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(tiny_config(f"data.path={corpus}"), run)
    before = metrics(run)
    resume(run)
    assert metrics(run) == before
    shutil.copy(SAMPLE / "test.txt", corpus)
    resume(run)
    *others, test = metrics(run)
    assert others == before
    assert test["kind"] == "test"


def test_test_can_be_omitted_and_made_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(tiny_config("run.test=false"), run, reporter=ConsoleReporter())
    assert "no test perplexity: run.test is false\n" in capsys.readouterr().out
    assert json.loads((run / "result.json").read_text())["test_perplexity"] is None
    resume(run, "run.test=true")
    *others, test = metrics(run)
    assert test["kind"] == "test"
    assert all(record["kind"] != "test" for record in others)


def test_test_split_of_a_run_must_not_disappear(finished: Path, corpus: Path) -> None:
    with pytest.raises(DataError, match="the test split is missing"):
        resume(copy_run(finished, corpus.parent), f"data.path={corpus}")


def test_best_epoch_without_a_test_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_random_corpus(tmp_path / "corpus")
    (corpus / "test.txt").unlink()
    train(overfitting_config(corpus), tmp_path / "run", reporter=ConsoleReporter())
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["best_epoch"], written["best_test_perplexity"]) == (BEST_EPOCH, None)
    output, errors = capsys.readouterr()
    assert f"best valid perplexity {written['best_valid_perplexity']:.2f} after epoch 2\n" in output
    _, command = (line for line in errors.splitlines() if line.startswith("next: ptblm "))
    code, _, shown = ptblm(*shlex.split(command)[2:])
    assert code == 0
    assert "after epoch 2" in shown
    assert "valid split of corpus" in shown


def test_published_results_are_compared_without_a_test() -> None:
    lines = summary([EPOCH], RunDone(100, None), "word", {}, [PublishedResult("paper", 5, 4, 3)])
    ours, paper = (line.split() for line in lines[-2:])
    assert ours[-3:] == ["8.00", "4.00", "-"]
    assert paper[-3:] == ["5.00", "4.00", "3.00"]
