"""Averages in runs: every use of a checkpoint takes the average, and training continues without."""

import copy
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm.backend.matmul import use_matmul_backend
from ptblm.checkpoint.format import Checkpoint, load_checkpoint, save_checkpoint
from ptblm.errors import Interrupted
from ptblm.reporting.console import ConsoleReporter
from ptblm.reporting.reporter import SilentReporter
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.initial import load_initial_model
from ptblm.run.load_model import load_model
from ptblm.run.setup import setup_run
from ptblm.run.train import train
from ptblm.training.records import Evaluating, Record
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, copy_run, last_checkpoint, metrics, resume
from tests.run.overfitting import overfitting_config, write_random_corpus

TAIL = "training.average={type: tail, start: 1, patience: null}"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_corpus(tmp_path_factory.mktemp("random") / "corpus")


@pytest.fixture(scope="module")
def averaged(corpus: Path) -> Path:
    """A finished run of four epochs that averages from the second on. Tests must not change it."""
    with use_matmul_backend("default"):
        train(overfitting_config(corpus, TAIL), corpus.with_name("run"))
    return corpus.with_name("run")


def result_of(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "result.json").read_text())
    return {key: value for key, value in loaded.items() if key != "training_seconds"}


def test_checkpoint_contains_both_sets_of_weights(averaged: Path) -> None:
    saved = load_checkpoint(last_checkpoint(averaged))
    assert saved.average.keys() == saved.model.keys()
    assert not torch.equal(saved.average["head.weight"], saved.model["head.weight"])
    assert saved.short_average == {}
    steps = saved.trained()[1]
    assert saved.train_state["averaged"] == {"average": steps * 3 // 4}


def test_evaluation_uses_the_average(averaged: Path) -> None:
    """Of the last and the best checkpoint, as validation and the test of the run do."""
    result = result_of(averaged)
    for name, key in (("last", "test_perplexity"), ("best", "best_test_perplexity")):
        path = averaged / "checkpoints" / f"{name}.safetensors"
        assert evaluate_checkpoint(path).score.perplexity == result[key]
    valid = evaluate_checkpoint(averaged, split="valid").score.perplexity
    assert valid == pytest.approx(result["valid_perplexity"], rel=1e-3)  # other streams


def test_every_loaded_model_has_the_averaged_weights(averaged: Path) -> None:
    saved = load_checkpoint(last_checkpoint(averaged))
    models = [load_model(averaged, "cpu").model]
    initial = load_initial_model(last_checkpoint(averaged))
    models.append(setup_run(initial.config, initial=initial).trainer.model)
    for model in models:
        for name, value in model.state_dict().items():
            assert torch.equal(value, saved.average[name]), name


def test_epochs_say_whether_they_were_validated_with_the_average(
    averaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs = [record for record in metrics(averaged) if record["kind"] == "epoch"]
    steps = epochs[0]["step"]
    assert [epoch["averaged"] for epoch in epochs] == [0, steps, 2 * steps, 3 * steps]
    resume(copy_run(averaged, tmp_path), reporter=ConsoleReporter())
    rows = [line for line in capsys.readouterr().out.splitlines() if line[:5].strip().isdigit()]
    assert [row.endswith(" avg") for row in rows] == [False, True, True, True]


def test_show_and_verify_describe_the_average(averaged: Path) -> None:
    steps = load_checkpoint(last_checkpoint(averaged)).trained()[1] * 3 // 4
    _, _, shown = ptblm("checkpoint", "show", averaged)
    assert f"average      of the weights after {steps} steps\n" in shown
    code, _, output = ptblm("checkpoint", "verify", averaged)
    assert code == 0, output


def nan_in_trajectory(checkpoint: Checkpoint) -> None:
    checkpoint.model["head.bias"][0] = float("nan")


def nan_in_average(checkpoint: Checkpoint) -> None:
    checkpoint.average["head.bias"][0] = float("nan")


def cut_average(checkpoint: Checkpoint) -> None:
    checkpoint.average["head.bias"] = checkpoint.average["head.bias"][:-1].clone()


def no_average(checkpoint: Checkpoint) -> None:
    checkpoint.average.clear()


def no_averaging(checkpoint: Checkpoint) -> None:
    checkpoint.config["training"]["average"] = {"type": "none"}


# The change, a part of the message, and whether an evaluation fails too.
@pytest.mark.parametrize(
    ("change", "message", "evaluation_fails"),
    [
        (nan_in_trajectory, "model.head.bias contains values that are not finite", False),
        (nan_in_average, "average.head.bias contains values that are not finite", True),
        (cut_average, "average.head.bias: ", True),
        (no_average, r"average\..*: missing", False),
        (no_averaging, "train_state.averaged.average: unknown", False),
    ],
)
def test_damaged_average_is_rejected(
    change: Any, message: str, evaluation_fails: bool, averaged: Path, tmp_path: Path
) -> None:
    path = tmp_path / "last.safetensors"
    checkpoint = copy.deepcopy(load_checkpoint(last_checkpoint(averaged)))
    change(checkpoint)
    save_checkpoint(path, checkpoint)
    code, _, output = ptblm("checkpoint", "verify", path)
    assert code == 4
    assert re.search(message, output), output
    code, _, _ = ptblm("eval", path)
    assert (code == 4) == evaluation_fails


class StopInSecondValidation(SilentReporter):
    """Sends this process a stop signal while the average is validated for the first time."""

    def __init__(self) -> None:
        self.stopped = False

    def write(self, record: Record) -> None:
        if isinstance(record, Evaluating) and record.split == "valid" and not self.stopped:
            self.stopped = True
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("average", ["{type: tail, start: 0.5, patience: null}", "two_tailed"])
def test_run_stopped_in_validation_continues_from_its_own_weights(
    average: str, corpus: Path, tmp_path: Path
) -> None:
    """A run that continued from the average would end elsewhere."""
    config = overfitting_config(corpus, f"training.average={average}", "training.epochs=3")
    train(config, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, tmp_path / "run", reporter=StopInSecondValidation())
    saved = load_checkpoint(last_checkpoint(tmp_path / "run"))
    assert saved.average
    resume(tmp_path / "run")
    assert_same_end(tmp_path / "run", tmp_path / "whole")
    assert result_of(tmp_path / "run") == result_of(tmp_path / "whole")


def test_average_cannot_change_in_a_resumed_run(averaged: Path) -> None:
    code, errors, _ = ptblm(
        "train", "--resume", averaged, "--set", "training.average=ema", "--set", "training.epochs=9"
    )
    assert code == 2
    assert "training.average: is 'ema', but the run has 'tail'" in errors
