"""Sweeps of real runs: the trials, their continuation, and what they leave behind."""

import json
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.conftest import Ptblm, write_small_corpus
from tests.new_process import PipedCommand
from tests.run.helpers import assert_same_end, options, start, wait_for

SMALL = """
config: test
set:
  data.path: {corpus}
  model.hidden_size: 8
  training.batch_size: 4
  training.num_steps: 5
  training.epochs: {epochs}
  run.checkpoint_every: 20 steps
  run.log_every: 10
"""


def write_space(directory: Path, epochs: int, rest: str) -> Path:
    corpus = write_small_corpus(directory / "corpus")
    space = directory / "space.yaml"
    space.write_text(SMALL.format(corpus=corpus, epochs=epochs) + rest)
    return space


def undisturbed(ptblm: Ptblm, config: Path, run: Path, epochs: int) -> Path:
    """Trains the config of a trial without a sweep."""
    changes = options(["run.test=false", f"training.epochs={epochs}"])
    result = ptblm("train", "--config", config, "--run-dir", run, *changes)
    assert result.returncode == 0, result.stderr
    return run


def test_trials_are_ordinary_runs_without_a_test(ptblm: Ptblm, tmp_path: Path) -> None:
    space = write_space(tmp_path, 2, "sampler: grid\nspace: {training.learning_rate: [0.1]}\n")
    result = ptblm("sweep", "run", space)
    assert result.returncode == 0, result.stderr
    directory = tmp_path / "runs" / "sweep-space"
    assert result.stdout.startswith("trial 0 finished: 2 epochs, valid perplexity ")
    assert result.stderr.endswith(f"next: ptblm sweep show {directory.relative_to(tmp_path)}\n")
    run = directory / "trial-00000"
    assert json.loads((run / "result.json").read_text())["test_perplexity"] is None
    assert '"kind": "test"' not in (run / "metrics.jsonl").read_text()
    assert "no test perplexity: run.test is false" in run.with_suffix(".log").read_text()
    # The best config is tested like any other.
    best = ptblm("sweep", "best", directory)
    (tmp_path / "best.yaml").write_text(best.stdout)
    again = ptblm("train", "--config", "best.yaml", "--run-dir", "again")
    assert "test perplexity " in again.stdout
    assert ptblm("compare", directory).stdout.count("finished") == 0  # all are, so no column


def progress(directory: Path) -> float:
    """When any run of a sweep has last recorded something."""
    return max(path.stat().st_mtime for path in directory.glob("*/metrics.jsonl"))


@pytest.mark.slow
def test_custom_cell_in_a_space_does_not_run(ptblm: Ptblm, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\n")
    space = write_space(tmp_path, 1, "trials: 1\nspace: {model.cell: ['evil:Cell']}\n")
    result = ptblm("sweep", "run", space)
    assert result.returncode == 2
    assert "is code that you have not trained with" in result.stderr
    assert not (tmp_path / "ran").exists()


def test_bad_space_ends_before_anything_is_written(ptblm: Ptblm, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("trials: 1\nspace: {model.hiden_size: [1]}\n")
    result = ptblm("sweep", "run", "s.yaml")
    assert result.returncode == 2
    assert result.stderr == (
        "error: s.yaml:2:28: model.hiden_size: unknown key, did you mean 'hidden_size'?\n"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_pruned_run_can_be_resumed(ptblm: Ptblm, tmp_path: Path) -> None:
    rest = "sampler: grid\nspace: {training.learning_rate: [1, 0.01]}\npruner: {startup: 1}\n"
    space = write_space(tmp_path, 20, rest)
    assert ptblm("sweep", "run", space, "--dir", "d").returncode == 0
    shown = json.loads(ptblm("sweep", "show", "d", "--format", "json").stdout)
    assert [trial["state"] for trial in shown["trials"]] == ["finished", "pruned"]
    run = tmp_path / "d" / "trial-00001"
    assert not (run / "result.json").exists()
    assert ptblm("train", "--resume", run).returncode == 0
    expected = undisturbed(ptblm, tmp_path / "d" / "trial-00001.yaml", tmp_path / "alone", 20)
    assert_same_end(run, expected)


@pytest.mark.slow
def test_workers_killed_ten_times_lose_nothing(
    ptblm: Ptblm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers; ten times, one of them is killed after some progress, and replaced."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # more threads than cores take ten times as long
    rest = "space: {training.learning_rate: {low: 0.1, high: 1}}\ntrials: 12\npruner: none\n"
    space = write_space(tmp_path, 60, rest)
    directory, chooser = tmp_path / "d", random.Random(0)

    def worker() -> PipedCommand:
        return start("sweep", "run", space, "--dir", directory, cwd=tmp_path)

    workers = [worker(), worker()]
    wait_for(directory / "trial-00000" / "metrics.jsonl", lines=1)
    for number in range(10):
        before, deadline = progress(directory), time.monotonic() + 300
        while progress(directory) == before and time.monotonic() < deadline:
            time.sleep(chooser.uniform(0, 1))
        old = workers[number % 2]
        old.kill()
        old.communicate()
        workers[number % 2] = worker()
    errors = [each.communicate()[1] for each in workers]
    assert [each.returncode for each in workers] == [0, 0], errors
    document = json.loads(ptblm("sweep", "show", directory, "--format", "json").stdout)
    assert [trial["state"] for trial in document["trials"]] == ["finished"] * 12
    resumed = 0
    for number in range(12):
        run = directory / f"trial-{number:05}"
        environment = json.loads((run / "environment.json").read_text())
        resumed += bool(environment.get("resumed"))
        expected = undisturbed(ptblm, run.with_suffix(".yaml"), tmp_path / "alone", 60)
        assert_same_end(run, expected)
        shutil.rmtree(expected)
    print(f"{resumed} of 12 runs were resumed")
    assert resumed
