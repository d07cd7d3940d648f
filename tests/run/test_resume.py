"""A stopped or killed run ends, bit for bit, like a run without interruption."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import CheckpointError, ConfigError
from ptblm.reporting.console import ConsoleReporter
from tests.conftest import Ptblm
from tests.run.helpers import (
    assert_same_end,
    copy_run,
    last_checkpoint,
    metrics,
    options,
    resume,
    start,
    wait_for,
)

SETTINGS = ["data.path=sample", "model.hidden_size=12", "model.dropout=0.3", "training.seed=4"]
SETTINGS += ["training.batch_size=10", "training.num_steps=20", "training.epochs=2"]
SETTINGS += ["training.schedule.full_rate_epochs=1", "run.log_every=20"]
TRAIN = ["train", *options(SETTINGS), "--run-dir"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without interruption."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    process = start(*TRAIN, directory, cwd=directory.parent)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return directory


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_run_resumes_bit_exactly(
    number: signal.Signals, tmp_path: Path, whole: Path, ptblm: Ptblm
) -> None:
    process = start(*TRAIN, tmp_path / "run", cwd=tmp_path)
    wait_for(tmp_path / "run" / "metrics.jsonl", 3)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"stopped: by {number.name}; everything is saved" in errors
    assert f"ptblm train --resume {tmp_path / 'run'}" in errors

    # The run directory may be moved, and the current directory may be another one.
    (tmp_path / "run").rename(tmp_path / "moved")
    result = ptblm("train", "--resume", tmp_path / "moved")
    assert result.returncode == 0, result.stderr
    assert "resumed" in result.stderr
    assert_same_end(tmp_path / "moved", whole)
    table = result.stdout.splitlines()
    assert [line.split()[0] for line in table[2:4]] == ["1", "2"]


def test_killed_run_resumes_bit_exactly(tmp_path: Path, whole: Path, ptblm: Ptblm) -> None:
    """Records after the last checkpoint are removed and written again."""
    directory = tmp_path / "run"
    process = start(*TRAIN, directory, cwd=tmp_path)
    wait_for(last_checkpoint(directory))
    wait_for(directory / "metrics.jsonl", len(metrics(whole)) // 2 + 3)
    process.kill()
    process.communicate(timeout=60)
    (directory / "checkpoints" / "last.safetensors.0123abcd.part").write_bytes(b"half a file")
    with (directory / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "st')
    result = ptblm("train", "--resume", directory)
    assert result.returncode == 0, result.stderr
    assert_same_end(directory, whole)
    assert not list(tmp_path.glob("**/*.part"))


@pytest.fixture(scope="module")
def every_step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that keeps every step: two epochs of 99 steps, with a decay in between."""
    directory = tmp_path_factory.mktemp("every_step") / "run"
    settings = ["data.path=sample", "model.hidden_size=12", "model.dropout=0.3"]
    settings += ["training.epochs=2", "training.schedule.full_rate_epochs=1", "run.log_every=7"]
    settings += ["run.checkpoint_every=1 steps", "run.keep_checkpoints=1000"]
    arguments = ["train", *options(settings), "--run-dir", directory]
    process = start(*arguments, cwd=directory.parent)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return directory


# The first step, mid-epoch, before, at and after the end of an epoch, and at the end of the run.
@pytest.mark.parametrize("step", [1, 50, 98, 99, 100, 197, 198])
def test_new_process_resumes_bit_exactly_from_any_step(
    step: int, every_step: Path, tmp_path: Path, ptblm: Ptblm
) -> None:
    kept = every_step / "checkpoints" / f"step-{step:09}.safetensors"
    assert load_checkpoint(kept).trained()[1] == step
    directory = tmp_path / "run"
    shutil.copytree(every_step, directory, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(kept, last_checkpoint(directory))
    result = ptblm("train", "--resume", directory, "--set", "run.checkpoint_every=1000 steps")
    assert result.returncode == 0, result.stderr
    assert_same_end(directory, every_step)


@pytest.mark.parametrize(
    ("optimizer", "rate", "schedule", "step"),
    [
        ("momentum", 0.1, ["training.schedule=cosine"], 20),
        ("adam", 0.01, ["training.schedule=plateau", "training.warmup_steps=30"], 20),
        ("rmsprop", 0.01, ["training.schedule=constant"], 39),
    ],
)
def test_new_process_resumes_any_optimizer_bit_exactly(
    optimizer: str, rate: float, schedule: list[str], step: int, tmp_path: Path, ptblm: Ptblm
) -> None:
    settings = [f"training.optimizer={optimizer}", f"training.learning_rate={rate}", *schedule]
    settings += ["model.hidden_size=12", "model.dropout=0.3", "training.epochs=2"]
    settings += ["run.checkpoint_every=20 steps", "run.keep_checkpoints=9"]
    settings += ["run.log_every=7", "data.path=sample", "training.batch_size=50"]
    whole = tmp_path / "whole"
    assert ptblm("train", "--run-dir", whole, *options(settings)).returncode == 0
    directory = copy_run(whole, tmp_path)
    last = last_checkpoint(directory)
    last.with_name(f"step-{step:09}.safetensors").replace(last)
    again = ptblm("train", "--resume", directory)
    assert again.returncode == 0, again.stderr
    assert f"step {step}" in again.stderr
    assert_same_end(directory, whole)
    if optimizer == "adam":
        assert load_checkpoint(last).optimizer["head.bias.step"] == 78


def test_finished_run_can_be_extended(tmp_path: Path, whole: Path) -> None:
    directory = copy_run(whole, tmp_path)
    resume(directory)
    assert metrics(directory) == metrics(whole)
    resume(directory, "training.epochs=3")
    epochs = [record["epoch"] for record in metrics(directory) if record["kind"] == "epoch"]
    assert epochs == [1, 2, 3]


@pytest.mark.parametrize(
    ("overrides", "rate"), [([], ""), (["training.epochs=3"], "; learning rate 0.25")]
)
def test_resumed_run_reports_the_learning_rate_of_its_next_epoch(
    overrides: list[str],
    rate: str,
    tmp_path: Path,
    whole: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    directory = copy_run(whole, tmp_path)
    resume(directory, *overrides, reporter=ConsoleReporter())
    lines = capsys.readouterr().err.splitlines()
    assert f"  resumed     after epoch 2, step 398{rate}" in lines
    (*_, epoch, _) = metrics(directory)
    assert epoch["learning_rate"] == (0.25 if rate else 0.5)


@pytest.mark.parametrize("name", ["", "checkpoints", "checkpoints/last.safetensors"])
def test_run_is_resumed_from_its_parts(run: Path, name: str) -> None:
    resume(run / name, "training.epochs=2")
    assert metrics(run)[-2]["epoch"] == 2


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("checkpoints/best.safetensors", "this is another one", "ptblm train --init PATH"),
        ("config.yaml", "not a run directory but a file", "ptblm train --resume RUN"),
        ("metrics.jsonl", "not a run directory but a file", "ptblm train --resume RUN"),
        ("checkpoints/step-1.safetensors", "no such file", "ptblm train --resume RUN"),
        ("../alone.safetensors", "outside of a run directory", "ptblm train --init PATH"),
        ("../new.txt", "not a run directory but a file", "pass a run directory"),
        ("../nowhere", "no such run directory", "pass a run directory"),
        ("..", "no checkpoint to resume from", "pass a run directory"),
    ],
)
def test_other_paths_are_explained(run: Path, name: str, message: str, hint: str) -> None:
    shutil.copy(last_checkpoint(run), run / ".." / "alone.safetensors")
    (run / ".." / "new.txt").write_text("text")
    with pytest.raises(CheckpointError, match=message) as caught:
        resume(run / name)
    assert hint.replace("PATH", os.path.normpath(run / name)).replace("RUN", str(run)) in str(
        caught.value.hint
    )


@pytest.mark.usefixtures("in_directory")
def test_missing_run_in_runs_is_suggested() -> None:
    Path("runs/small-ptb").mkdir(parents=True)
    with pytest.raises(CheckpointError) as caught:
        resume(Path("small-ptb"))
    assert caught.value.where == os.path.abspath("small-ptb")
    assert caught.value.hint == "ptblm train --resume runs/small-ptb"


@pytest.mark.parametrize("name", ["", "checkpoints/last.safetensors", "checkpoints"])
def test_run_passed_as_config_is_explained(run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="not a config") as caught:
        load_config(str(run / name))
    assert caught.value.hint == f"the config of this run is {run / 'config.yaml'}"
    load_config(str(run / "config.yaml"))


def test_missing_last_checkpoint_is_replaced_by_the_newest(
    run: Path, log: pytest.LogCaptureFixture
) -> None:
    last_checkpoint(run).unlink()
    resume(last_checkpoint(run), "training.epochs=2")
    assert "resuming from" in log.messages[0]
    assert last_checkpoint(run).is_file()
