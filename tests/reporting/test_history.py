"""Reading what a run has recorded, also of a run in progress and of strangers' files."""

import logging
import math
import os
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.config.show import config_document
from ptblm.errors import CheckpointError, ConfigError
from ptblm.json_files import read_json
from ptblm.reporting import history
from ptblm.reporting.history import read_run
from ptblm.reporting.metrics import MetricsFile
from ptblm.run.train import train
from tests.reporting.records import EPOCH, STEP, TEST, WORSE_EPOCH


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in progress, with three records."""
    directory = tmp_path / "my-run"
    directory.mkdir()
    (directory / "config.yaml").write_text(config_document(load_config("test")))
    metrics = MetricsFile(directory / "metrics.jsonl", 0, log_every=125, unit="word")
    for record in (STEP, EPOCH, WORSE_EPOCH, TEST):
        metrics.write(record)
    metrics.close()
    return directory


def append(run: Path, text: str) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write(text)


def test_history_of_a_finished_run_is_what_training_returned(tmp_path: Path) -> None:
    overrides = ["data.path=sample", "model.hidden_size=4", "training.epochs=2"]
    config = load_config("test", [*overrides, "run.log_every=10"])
    result = train(config, tmp_path / "run")
    found = read_run(tmp_path / "run")
    assert (found.state, found.name) == ("finished", "run")
    assert found.config == config
    assert found.epochs == result.history
    assert result.test.score is not None
    assert found.test_perplexity == result.test.score.perplexity
    assert found.parameters == result.info.parameters
    assert found.environment == read_json(tmp_path / "run" / "environment.json")
    assert [step.step for step in found.steps] == list(range(10, found.steps[-1].step + 1, 10))
    assert found.hours == pytest.approx(sum(done.seconds for done in result.history) / 3600)


def test_run_in_progress_has_records_but_no_result(run: Path) -> None:
    append(run, '{"kind": "epoch", "epoch": 4, "st')  # the line that is being written
    found = read_run(run)
    assert (found.state, found.result, found.test_perplexity) == ("unfinished", {}, None)
    assert found.epochs == [EPOCH, WORSE_EPOCH]
    assert (found.best, found.valid_perplexity) == (EPOCH, 8.0)
    assert [(step.step, step.nll, step.grad_norm) for step in found.steps] == [(250, 0.5, 1.0)]


def test_run_before_its_first_record_is_empty(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    found = read_run(run)
    assert (found.steps, found.epochs, found.best, found.hours) == ([], [], None, 0.0)
    assert (found.valid_perplexity, found.tokens_per_second) == (None, None)


def test_diverged_run_is_recognized(run: Path) -> None:
    (run / "diverged.json").write_text("{}")
    assert read_run(run).state == "diverged"


def test_null_becomes_nan_except_for_a_skipped_update(run: Path) -> None:
    append(run, (run / "metrics.jsonl").read_text().splitlines()[0].replace("0.5", "null") + "\n")
    step = read_run(run).steps[-1]
    assert math.isnan(step.nll)
    append(
        run,
        '{"kind": "step", "epoch": 1, "step": 9, "learning_rate": 1, "nll": 1, "grad_norm": null,'
        ' "perplexity": 2, "tokens_per_second": 3}\n',
    )
    assert read_run(run).steps[-1].grad_norm is None


def test_damaged_lines_are_ignored_with_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    append(run, 'not JSON\n[1]\n{"kind": "step", "step": "one"}\n{"kind": "other"}\n')
    with caplog.at_level(logging.WARNING):
        assert len(read_run(run).steps) == 1
    assert "3 lines are not records" in caplog.text


def test_metrics_beyond_the_bounds_are_rejected(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(run, "x" * (history.MAX_LINE_BYTES + 1))
    with pytest.raises(CheckpointError, match="too long"):
        read_run(run)
    monkeypatch.setattr(history, "MAX_METRICS_BYTES", 1000)
    with pytest.raises(CheckpointError, match="too large"):
        read_run(run)


def test_pipe_as_metrics_does_not_block(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.mkfifo(run / "metrics.jsonl")
    with pytest.raises(CheckpointError):
        read_run(run)


def test_result_with_wrong_types_has_no_numbers(run: Path) -> None:
    (run / "result.json").write_text('{"test_perplexity": "9", "parameters": true}')
    found = read_run(run)
    assert (found.state, found.test_perplexity, found.parameters) == ("finished", None, None)


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing", "no such run"), ("file", "not a run"), ("empty", "config.yaml is missing")],
)
def test_other_paths_are_one_message(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=message):
        read_run(tmp_path / name)


def test_invalid_config_names_its_key(run: Path) -> None:
    (run / "config.yaml").write_text("model: {hidden_size: -1}\n")
    with pytest.raises(ConfigError, match="hidden_size"):
        read_run(run)
