"""A run whose best epoch is not the last reports the results of both."""

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm.backend.matmul import use_matmul_backend
from ptblm.errors import Interrupted
from ptblm.reporting.console import ConsoleReporter
from ptblm.reporting.reporter import SilentReporter
from ptblm.run import best
from ptblm.run.checkpoints import show_checkpoint
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.train import train
from ptblm.training.records import Evaluating, Record
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, copy_run, flip_bit, resume
from tests.run.overfitting import BEST_EPOCH, overfitting_config, write_random_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_corpus(tmp_path_factory.mktemp("random") / "corpus")


@pytest.fixture(scope="module")
def overfitted(corpus: Path) -> Path:
    """A finished run of four epochs. Tests must not change it."""
    with use_matmul_backend("default"):
        train(overfitting_config(corpus), corpus.with_name("run with spaces"))
    return corpus.with_name("run with spaces")


def best_checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "best.safetensors"


def result_of(run: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((run / "result.json").read_text())
    return {key: value for key, value in result.items() if key != "training_seconds"}


def test_result_has_the_test_perplexity_of_both_epochs(overfitted: Path) -> None:
    result = result_of(overfitted)
    assert (result["best_epoch"], result["epochs"]) == (BEST_EPOCH, 4)
    assert result["best_valid_perplexity"] < result["valid_perplexity"]
    last = evaluate_checkpoint(overfitted).score
    best = evaluate_checkpoint(best_checkpoint(overfitted)).score
    assert result["test_perplexity"] == last.perplexity
    assert result["best_test_perplexity"] == best.perplexity < last.perplexity


def test_result_is_the_same_when_the_last_epoch_is_the_best(corpus: Path, tmp_path: Path) -> None:
    train(overfitting_config(corpus, "training.epochs=2"), tmp_path / "run")
    result = result_of(tmp_path / "run")
    assert result["best_test_perplexity"] == result["test_perplexity"]


def test_summary_reports_the_best_epoch_and_its_command(
    overfitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(overfitted, tmp_path / "a copy"))
    result = result_of(run)
    resume(run, reporter=ConsoleReporter())
    output, errors = capsys.readouterr()
    best_valid, best_test = result["best_valid_perplexity"], result["best_test_perplexity"]
    assert (
        f"best valid perplexity {best_valid:.2f} after epoch 2: test perplexity {best_test:.2f}\n"
    ) in output
    commands = [line for line in errors.splitlines() if line.startswith("next: ptblm ")]
    for command, perplexity in zip(commands, (result["test_perplexity"], best_test), strict=True):
        code, _, shown = ptblm(*shlex.split(command)[2:])
        assert code == 0
        assert f"perplexity   {perplexity:.2f};" in shown


def remove(best: Path) -> None:
    best.unlink()


def replace_by_last(best: Path) -> None:
    shutil.copy(best.with_name("last.safetensors"), best)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (remove, "no such checkpoint"),
        (flip_bit, "digest does not match"),
        (replace_by_last, "it is not the checkpoint of this epoch"),
    ],
)
def test_unusable_best_checkpoint_is_one_warning(
    damage: Callable[[Path], None],
    reason: str,
    overfitted: Path,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    run = copy_run(overfitted, tmp_path)
    damage(best_checkpoint(run))
    resume(run)
    assert len(log.messages) == 1
    assert log.messages[0].startswith("the best epoch, 2, was not tested: ")
    assert reason in log.messages[0]
    whole = result_of(overfitted)
    assert result_of(run) == {**whole, "best_test_perplexity": None}


def test_out_of_memory_in_the_test_of_the_best_epoch_is_a_warning(
    overfitted: Path,
    tmp_path: Path,
    log: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The result of the last epoch must not be lost."""

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    run = copy_run(overfitted, tmp_path)
    monkeypatch.setattr(best, "model_from_checkpoint", fail)
    resume(run)
    assert log.messages == [
        f"the best epoch, 2, was not tested: {best_checkpoint(run)}: out of memory in the test"
    ]
    assert result_of(run) == {**result_of(overfitted), "best_test_perplexity": None}


def test_run_resumed_after_its_best_epoch_has_the_same_result(
    corpus: Path, overfitted: Path, tmp_path: Path
) -> None:
    train(overfitting_config(corpus, "training.epochs=3"), tmp_path / "run")
    resume(tmp_path / "run", "training.epochs=4")
    assert result_of(tmp_path / "run") == result_of(overfitted)


class StopWhileTestingBest(SilentReporter):
    """Sends this process a stop signal during the test of the best epoch."""

    def write(self, record: Record) -> None:
        if isinstance(record, Evaluating) and record.of_best:
            os.kill(os.getpid(), signal.SIGTERM)


def test_signal_while_testing_the_best_epoch_repeats_the_test(
    corpus: Path, overfitted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        train(overfitting_config(corpus), run, reporter=StopWhileTestingBest())
    assert not (run / "result.json").exists()
    resume(run)
    assert_same_end(run, overfitted)
    assert result_of(run) == result_of(overfitted)


def test_checkpoint_show_reports_the_best_epoch(overfitted: Path) -> None:
    valid = show_checkpoint(overfitted).valid_perplexities
    assert len(valid) == 4
    _, _, shown = ptblm("checkpoint", "show", overfitted)
    assert f"best valid   perplexity {min(valid):.2f} after epoch 2\n" in shown
    _, _, shown = ptblm("checkpoint", "show", best_checkpoint(overfitted))
    assert "best valid" not in shown
