"""Early stopping ends a run after epochs without a better validation perplexity."""

import json
from pathlib import Path

import pytest

from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.errors import CheckpointError
from ptblm.reporting.console import ConsoleReporter
from ptblm.run import saving
from ptblm.run.train import train
from tests.run.helpers import assert_same_end, last_checkpoint, resume
from tests.run.overfitting import overfitting_config, write_random_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_corpus(tmp_path_factory.mktemp("random") / "corpus")


def patience(epochs: int) -> str:
    return f"training.early_stopping.patience={epochs}"


def test_run_ends_after_epochs_without_improvement(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = overfitting_config(corpus, patience(1))
    result = train(config, tmp_path / "run", reporter=ConsoleReporter())
    assert [done.best for done in result.history] == [True, True, False]
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["epochs"], written["best_epoch"], written["stopped_early"]) == (3, 2, True)
    output = capsys.readouterr().out
    assert "stopped early: no better valid perplexity since epoch 2\n" in output


def test_run_that_completes_its_epochs_did_not_stop_early(corpus: Path, tmp_path: Path) -> None:
    train(overfitting_config(corpus, patience(2)), tmp_path / "run")
    written = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (written["epochs"], written["stopped_early"]) == (4, False)


def test_resumed_run_stays_finished_with_the_same_patience(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(overfitting_config(corpus, patience(1)), run)
    before = last_checkpoint(run).read_bytes(), (run / "result.json").read_text()
    resume(run)
    assert (last_checkpoint(run).read_bytes(), (run / "result.json").read_text()) == before


def test_larger_patience_continues_the_run_bit_exactly(corpus: Path, tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(overfitting_config(corpus), whole)
    train(overfitting_config(corpus, patience(1)), stopped)
    assert load_checkpoint(last_checkpoint(stopped)).trained()[0] == 3
    resume(stopped, patience(5))
    assert load_checkpoint(last_checkpoint(stopped)).trained()[0] == 4
    assert_same_end(stopped, whole)


def test_save_at_an_early_end_must_succeed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_disk_after_two_epochs(path: Path, checkpoint: Checkpoint) -> None:
        if checkpoint.trained()[0] > 2:
            raise OSError(28, "No space left on device")
        save_checkpoint(path, checkpoint)

    monkeypatch.setattr(saving, "save_checkpoint", fill_disk_after_two_epochs)
    with pytest.raises(CheckpointError, match="the last checkpoint could not be saved"):
        train(overfitting_config(corpus, patience(1)), tmp_path / "run")
