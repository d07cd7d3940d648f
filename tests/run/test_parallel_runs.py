"""Runs of several processes: results, resume, differences between processes, lost processes."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm.backend.distributed import World
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.errors import DifferentWeightsError
from ptblm.run.processes import agreed_requests
from ptblm.run.signals import SaveSignal, StopSignal
from ptblm.training.records import StepDone
from tests.conftest import FAST, Ptblm, write_small_corpus
from tests.process_group import run_commands, run_in_processes, start_commands
from tests.training.small_trainer import make_trainer

# 5 rows in 2 or 3 processes.
SMALL = [word.replace("batch_size=4", "batch_size=5") for word in FAST]
SAVING = ["--set", "run.checkpoint_every=7 steps", "--set", "run.keep_checkpoints=9"]


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if "second" not in key}
        for line in lines
    ]


def assert_same_metrics(found: Path, wanted: Path) -> None:
    for one, other in zip(metrics(found), metrics(wanted), strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            is_number = isinstance(value, float)
            assert one[name] == (pytest.approx(value, rel=1e-6) if is_number else value), name


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.safetensors").model


def assert_bit_equal(found: Path, wanted: Path) -> None:
    assert metrics(found) == metrics(wanted)
    ours, theirs = weights(found), weights(wanted)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte", "bpe"])
def test_run_of_two_processes_has_the_metrics_of_one(
    ptblm: Ptblm, small_corpus: Path, tmp_path: Path, tokenizer: str
) -> None:
    arguments = ["train", "--data", small_corpus, "--tokenizer", tokenizer, *SMALL]
    assert ptblm(*arguments, "--run-dir", "one").returncode == 0
    main, other = run_commands([[*arguments, "--run-dir", "two"]] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert "processes   2, each with 2 or 3 streams of a batch" in main.stderr
    assert (other.stdout, other.stderr) == ("", "")
    assert_same_metrics(tmp_path / "two", tmp_path / "one")
    test_perplexities = [
        json.loads((tmp_path / run / "result.json").read_text())["test_perplexity"]
        for run in ("one", "two")
    ]
    assert test_perplexities[1] == pytest.approx(test_perplexities[0], rel=1e-6)


@pytest.fixture(scope="module")
def saved_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two processes, with a checkpoint after every 7 steps."""
    directory = tmp_path_factory.mktemp("parallel")
    corpus = write_small_corpus(directory / "corpus")
    arguments = ["train", "--data", corpus, "--run-dir", "run", *SMALL, *SAVING]
    main, _ = run_commands([arguments] * 2, directory)
    assert main.returncode == 0, main.stderr
    return directory / "run"


def resumable(saved_run: Path, tmp_path: Path, step: int) -> Path:
    """A copy of the run as it was after a step."""
    run = Path(shutil.copytree(saved_run, tmp_path / "run"))
    checkpoints = run / "checkpoints"
    shutil.copy(
        next(checkpoints.glob(f"step-*{step}.safetensors")), checkpoints / "last.safetensors"
    )
    return run


def test_resume_with_as_many_processes_is_bit_exact(saved_run: Path, tmp_path: Path) -> None:
    run = resumable(saved_run, tmp_path, 14)
    main, _ = run_commands([["train", "--resume", run]] * 2, tmp_path)
    assert main.returncode == 0, main.stderr
    assert_bit_equal(run, saved_run)


@pytest.mark.parametrize("size", [1, 3])
def test_run_resumes_with_another_number_of_processes(
    saved_run: Path, tmp_path: Path, size: int
) -> None:
    run = resumable(saved_run, tmp_path, 7)
    main, *_ = run_commands([["train", "--resume", run]] * size, tmp_path)
    assert main.returncode == 0, main.stderr
    assert f"the number of processes was 2 and is {size}" in main.stderr
    assert_same_metrics(run, saved_run)


def test_missing_test_of_a_trained_run_is_made_up_for(saved_run: Path, tmp_path: Path) -> None:
    """Process 0 alone has something left to do."""
    run = Path(shutil.copytree(saved_run, tmp_path / "run"))
    (run / "result.json").unlink()
    main, other = run_commands([["train", "--resume", run]] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert_bit_equal(run, saved_run)
    assert (run / "result.json").is_file()


def test_different_texts_are_rejected(small_corpus: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(small_corpus, tmp_path / "other"))
    (other / "train.txt").write_text((other / "train.txt").read_text().replace("dog", "cat"))
    started = time.monotonic()
    arguments = [["train", "--data", data, *SMALL] for data in (small_corpus, small_corpus, other)]
    main, second, third = run_commands(arguments, tmp_path)
    assert main.returncode == second.returncode == third.returncode == 3
    assert "error: process 2: the train split differs from that of process 0" in main.stderr
    assert second.stderr == third.stderr == ""
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("config.yaml"))
    assert time.monotonic() - started < 60


def test_missing_test_split_of_another_process_is_rejected(
    small_corpus: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(small_corpus, tmp_path / "other"))
    (other / "test.txt").unlink()
    arguments = [["train", "--data", data, *SMALL] for data in (small_corpus, other)]
    main, second = run_commands(arguments, tmp_path)
    assert (main.returncode, second.returncode) == (3, 3)
    assert "error: process 1: the test split differs from that of process 0" in main.stderr


def test_different_configs_are_rejected(small_corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", small_corpus, *SMALL]
    commands = [arguments, [*arguments, "--set", "training.max_grad_norm=3"]]
    main, other = run_commands(commands, tmp_path)
    assert (main.returncode, other.returncode) == (2, 2)
    message = "process 1: training.max_grad_norm differs from that of process 0: 3.0 instead of 5.0"
    assert message in main.stderr


def test_different_initial_weights_are_rejected(saved_run: Path, tmp_path: Path) -> None:
    last = saved_run / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    checkpoint.model["head.bias"][0] += 1
    save_checkpoint(tmp_path / "other.safetensors", checkpoint)
    corpus = checkpoint.config["data"]["path"]
    arguments = ["train", "--data", corpus, "--run-dir", "new", "--init"]
    commands = [[*arguments, path] for path in (last, tmp_path / "other.safetensors")]
    main, other = run_commands(commands, tmp_path)
    assert (main.returncode, other.returncode) == (2, 2), main.stderr
    assert "the initial weights are not the same in all processes" in main.stderr
    assert other.stderr == ""


def test_missing_corpus_of_another_process_is_reported(small_corpus: Path, tmp_path: Path) -> None:
    commands = [["train", "--data", data, *SMALL] for data in (small_corpus, "missing")]
    main, other = run_commands(commands, tmp_path)
    assert (main.returncode, other.returncode) == (3, 3)
    assert "error: process 1: " in main.stderr
    assert "missing" in main.stderr


def test_more_processes_than_streams_are_rejected(small_corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", small_corpus, "--set", "training.batch_size=1"]
    main, _ = run_commands([arguments] * 2, tmp_path)
    assert main.returncode == 2
    assert "training.batch_size is 1, less than the 2 processes" in main.stderr


def test_run_directory_in_use_ends_all_processes(run_directory: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", "sample", "--run-dir", run_directory]
    main, other = run_commands([arguments] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (2, 2)
    assert other.stderr == ""


def test_error_of_process_0_alone_ends_all_processes(saved_run: Path, tmp_path: Path) -> None:
    run = resumable(saved_run, tmp_path, 7)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    main, other = run_commands([["train", "--resume", run]] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (2, 2), main.stderr
    assert "metrics.jsonl" in main.stderr
    assert other.stderr == ""


def test_divergence_ends_all_processes(small_corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", small_corpus, "--run-dir", "run", *SMALL]
    arguments += ["--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=1e30"]
    main, other = run_commands([arguments] * 2, tmp_path)
    assert (main.returncode, other.returncode) == (5, 5)
    assert other.stderr == ""
    assert (tmp_path / "run" / "diverged.json").is_file()


def exit_code_of_a_save(world: World) -> int:
    """The exit code of a process if the weights of process 1 differ before a save."""
    trainer = make_trainer(world=world, batch_size=5, log_every=1)
    record = next(record for record in trainer.records() if isinstance(record, StepDone))
    if world.rank == 1:
        with torch.no_grad():
            next(trainer.model.parameters()).add_(1)
    stop, save = StopSignal(lambda: None), SaveSignal()
    try:
        agreed_requests(trainer, record, stop, save, timeout=60, is_due=world.is_main)
    except DifferentWeightsError as error:
        assert world.is_main
        return error.exit_code
    except SystemExit as error:
        assert not world.is_main
        return int(str(error.code))
    return 0


def test_weights_that_differ_are_not_saved() -> None:
    assert run_in_processes(2, exit_code_of_a_save) == [6, 6]


LONG = [word.replace("epochs=2", "epochs=100000") for word in SMALL]


def started_training(arguments: list[Any], tmp_path: Path, size: int = 2) -> Any:
    """Starts processes, and waits until they have trained an epoch."""
    processes = start_commands([[*arguments, "--run-dir", "run"]] * size, tmp_path)
    best = tmp_path / "run" / "checkpoints" / "best.safetensors"
    deadline = time.monotonic() + 120
    while not best.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return processes


def test_stop_signal_to_one_process_stops_all(
    ptblm: Ptblm, small_corpus: Path, tmp_path: Path
) -> None:
    main, other = started_training(["train", "--data", small_corpus, *LONG], tmp_path)
    os.kill(other.pid, signal.SIGTERM)
    results = [main.wait(60), other.wait(60)]
    assert [result.returncode for result in results] == [143, 143]
    assert "stopped: by SIGTERM; everything is saved" in results[0].stderr
    assert results[1].stderr == ""
    assert ptblm("checkpoint", "verify", "run").returncode == 0


def test_stop_signals_to_all_processes_save_once(small_corpus: Path, tmp_path: Path) -> None:
    """A cluster signals each process, and torchrun passes the same signal on."""
    processes = started_training(["train", "--data", small_corpus, *LONG], tmp_path, 3)
    for _ in range(2):
        for process in processes:
            os.kill(process.pid, signal.SIGTERM)
    results = [process.wait(60) for process in processes]
    assert [result.returncode for result in results] == [143] * 3
    assert "everything is saved" in results[0].stderr
    assert "stopping after this step; press Ctrl-C to stop at once" in results[0].stderr


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_ends_the_others(small_corpus: Path, tmp_path: Path, victim: int) -> None:
    processes = started_training(["train", "--data", small_corpus, *LONG], tmp_path, 3)
    started = time.monotonic()
    os.kill(processes[victim].pid, signal.SIGKILL)
    results = [process.wait(60) for process in processes]
    assert time.monotonic() - started < 30
    for rank, result in enumerate(results):
        if rank != victim:
            assert result.returncode == 6
            errors = [line for line in result.stderr.splitlines() if "error:" in line]
            assert len(errors) == 1, result.stderr
            assert "another process of the run ended or did not respond" in errors[0]
            assert "Traceback" not in result.stderr


def test_process_that_does_not_respond_ends_the_others(small_corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", small_corpus, *LONG, "--set", "run.timeout=3"]
    main, other = started_training(arguments, tmp_path)
    os.kill(other.pid, signal.SIGSTOP)
    try:
        assert main.wait(30).returncode == 6
    finally:
        os.kill(other.pid, signal.SIGKILL)
    other.wait()
