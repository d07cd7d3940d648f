"""Workers of a sweep: every trial ends once, even if workers and runs are killed.

The trials are those of fake_train.py, except in test_sweep_runs.py.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock
from optuna import Study
from optuna.trial import TrialState

from ptblm.errors import CheckpointError, ConfigError, DataError, UsageError
from ptblm.run.lock import try_lock
from ptblm.run.sweep import check_optuna, repeats
from ptblm.run.sweep.child import DIVERGED, FINISHED, STOPPED
from ptblm.run.sweep.directory import SweepDirectory, claim_database_id
from ptblm.run.sweep.show import best_config, summarize_sweep
from tests.conftest import REPOSITORY, plain_environment
from tests.run.helpers import wait_for
from tests.run.sweep_worker import run

BASE = "set: {training.epochs: 4, data.path: sample}\n"
RANGE = "space: {training.learning_rate: {low: 0.1, high: 1}}\n"


def grid(*rates: float) -> str:
    """A sweep over learning rates, in this order."""
    return f"{BASE}sampler: grid\nspace: {{training.learning_rate: {list(rates)}}}\n"


def write(text: str, directory: Path) -> Path:
    path = directory / "space.yaml"
    path.write_text(text)
    return path


def states(study: Study) -> list[str]:
    return [trial.state.name for trial in study.trials]


def starts(directory: Path) -> Counter[str]:
    """How often each run was started."""
    lines = (directory / "starts.txt").read_text().splitlines()
    return Counter(line.split()[0] for line in lines)


def start_worker(space: Path, directory: Path, seconds: float) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.run.sweep_worker", str(space), str(directory)],
        cwd=REPOSITORY,
        env={**plain_environment(), "FAKE_SECONDS": str(seconds)},
        stdout=subprocess.PIPE,
        text=True,
    )


def child_of(directory: Path, number: int) -> int:
    """The process of the newest run of a trial."""
    lines = (directory / "starts.txt").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines[::-1] if line.startswith(trial(number)))


def trial(number: int) -> str:
    return f"trial-{number:05}"


def wait_until_ended(process: int) -> None:
    """Waits until a process has ended, even if its parent has not noticed that yet."""
    status, deadline = Path(f"/proc/{process}/stat"), time.monotonic() + 30
    with contextlib.suppress(FileNotFoundError):
        while status.read_text().rpartition(")")[2].split()[0] != "Z":
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_best_trial_has_the_lowest_perplexity(tmp_path: Path) -> None:
    study = run(write(f"{BASE}{RANGE}trials: 5\npruner: none\n", tmp_path), tmp_path / "d")
    assert states(study) == ["COMPLETE"] * 5
    rates = [each.params["training.learning_rate"] for each in study.trials]
    assert [each.value for each in study.trials] == pytest.approx([25 * rate for rate in rates])
    assert len(set(rates)) == 5
    assert best_config(SweepDirectory(tmp_path / "d")).training.learning_rate == min(rates)


def test_sweep_with_one_worker_is_reproducible(tmp_path: Path) -> None:
    space = write(f"{BASE}{RANGE}trials: 3\n", tmp_path)
    first, second = (run(space, tmp_path / name) for name in ("a", "b"))
    assert [each.params for each in first.trials] == [each.params for each in second.trials]


def test_worse_trials_are_pruned_after_the_warmup(tmp_path: Path) -> None:
    pruner = "pruner: {type: median, startup: 1, warmup_epochs: 2}\n"
    os.environ["FAKE_SECONDS"] = "0.5"
    try:
        study = run(write(grid(0.1, 1.0) + pruner, tmp_path), tmp_path / "d")
    finally:
        del os.environ["FAKE_SECONDS"]
    assert states(study) == ["COMPLETE", "PRUNED"]
    assert max(study.trials[1].intermediate_values) > 2
    assert not (tmp_path / "d" / trial(1) / "result.json").exists()


def test_divergence_is_a_failed_trial(tmp_path: Path) -> None:
    study = run(write(grid(3.0, 0.5), tmp_path), tmp_path / "d")
    assert states(study) == ["FAIL", "COMPLETE"]
    shown = summarize_sweep(SweepDirectory(tmp_path / "d"))
    assert [each.state for each in shown.trials] == ["finished", "diverged"]


def test_worker_ends_after_three_errors_in_a_row(tmp_path: Path) -> None:
    space = write(f"{BASE}trials: 9\nspace: {{training.learning_rate: [1.5]}}\n", tmp_path)
    with pytest.raises(DataError, match="no such corpus") as caught:
        run(space, tmp_path / "d")
    assert caught.value.hint == "look for it"
    assert sum(starts(tmp_path / "d").values()) == 3
    # They do not count as trials, and their message is shown.
    shown = summarize_sweep(SweepDirectory(tmp_path / "d"))
    assert ["no such corpus" in each.note for each in shown.trials] == [True] * 3


def test_single_error_does_not_end_the_sweep(tmp_path: Path) -> None:
    study = run(write(grid(1.5, 0.5), tmp_path), tmp_path / "d")
    assert states(study) == ["FAIL", "COMPLETE"]


def test_only_repetitions_of_the_best_are_tested(tmp_path: Path) -> None:
    repeat = "repeat_best: {top: 2, seeds: 3}\n"
    run(write(grid(0.5, 0.1, 1.0) + repeat, tmp_path), tmp_path / "d")
    results = {
        path.parent.name: json.loads(path.read_text())["best_test_perplexity"]
        for path in (tmp_path / "d").glob("*/result.json")
    }
    assert {name for name, tested in results.items() if tested} == {
        f"{trial(number)}-seed-{seed}" for number in (0, 1) for seed in (1, 2, 3)
    }
    best, second = summarize_sweep(SweepDirectory(tmp_path / "d")).repetitions
    # The fake perplexity is 2.5 plus the seed: 3.5, 4.5, 5.5.
    assert (best.number, best.count, best.valid.mean, best.valid.sd) == (1, 3, 4.5, 1.0)
    assert (second.number, second.valid.low) == (0, 13.5)
    assert best.test is not None
    assert best.test.mean == 7.0


def test_repetitions_are_reported_with_how_they_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([FINISHED, DIVERGED, STOPPED])
    monkeypatch.setattr(repeats, "train_in_child", lambda *_: next(codes))
    found = []
    space = write(grid(0.5) + "repeat_best: {seeds: 3}\n", tmp_path)
    run(space, tmp_path / "d", on_repetition=lambda _, outcome: found.append(outcome))
    assert found == ["finished", "diverged", "stopped"]


def test_sweep_can_be_extended(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    run(write(f"{BASE}{RANGE}trials: 2\n", tmp_path), directory)
    assert len(run(write(f"{BASE}{RANGE}trials: 4\n", tmp_path), directory).trials) == 4
    assert len(run(tmp_path / "space.yaml", directory, trials=5).trials) == 5
    assert set(starts(directory).values()) == {1}


def test_directory_of_another_sweep_is_rejected(tmp_path: Path) -> None:
    run(write(grid(0.5), tmp_path), tmp_path / "d")
    with pytest.raises(ConfigError, match="contains another sweep"):
        run(write(grid(0.6), tmp_path), tmp_path / "d")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="something other than a sweep"):
        run(tmp_path / "space.yaml", tmp_path / "other")
    assert os.listdir(tmp_path / "other") == ["thesis.tex"]


def test_database_can_replace_the_journal(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/trials.db"
    directory = tmp_path / "d"
    study = run(write(grid(0.5, 0.4), tmp_path), directory, storage=url)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert not (directory / "journal.jsonl").exists()
    with pytest.raises(CheckpointError, match="missing") as missing:
        summarize_sweep(SweepDirectory(directory))
    assert "pass --storage" in str(missing.value.hint)
    assert summarize_sweep(SweepDirectory(directory), url).trials[0].number == 1
    with pytest.raises(CheckpointError, match=r"No such file or directory: '.*other\.db'"):
        summarize_sweep(SweepDirectory(directory), f"sqlite:///{tmp_path}/other.db")
    assert not (tmp_path / "other.db").exists()
    by_uri = f"sqlite:///file:{tmp_path}/trials.db?mode=ro&uri=true"
    assert summarize_sweep(SweepDirectory(directory), by_uri).trials[0].number == 1
    with pytest.raises(UsageError, match="trials cannot be read") as caught:
        run(tmp_path / "space.yaml", directory, storage="nonsense")
    assert caught.value.where == "--storage"


def test_sweeps_of_the_same_name_do_not_share_a_study(tmp_path: Path) -> None:
    url, space = f"sqlite:///{tmp_path}/trials.db", write(grid(0.5), tmp_path)
    for parent in ("a", "b"):
        study = run(space, tmp_path / parent / "sweep", storage=url)
        assert states(study) == ["COMPLETE"]
        assert (tmp_path / parent / "sweep" / trial(0) / "result.json").exists()
    (tmp_path / "a" / "sweep").rename(tmp_path / "moved")
    study = run(space, tmp_path / "moved", storage=url)
    assert states(study) == ["COMPLETE"]
    assert starts(tmp_path / "moved") == {trial(0): 1}
    (tmp_path / "moved" / "database-id").write_text("x" * 32)
    with pytest.raises(CheckpointError, match="not the name of a sweep"):
        run(space, tmp_path / "moved", storage=url)


@pytest.mark.parametrize(("first", "second"), [(None, "a"), ("a", None), ("a", "b")])
def test_trials_in_another_storage_are_not_started_again(
    first: str | None, second: str | None, tmp_path: Path
) -> None:
    first, second = (name and f"sqlite:///{tmp_path}/{name}.db" for name in (first, second))
    space = write(f"{BASE}{RANGE}trials: 1\n", tmp_path)
    run(space, tmp_path / "d", storage=first)
    config = (tmp_path / "d" / f"{trial(0)}.yaml").read_bytes()
    storages = {*tmp_path.glob("*.db"), *tmp_path.rglob("journal.jsonl")}
    with pytest.raises(UsageError, match="does not contain the trials of this directory"):
        run(space, tmp_path / "d", trials=2, storage=second)
    assert {*tmp_path.glob("*.db"), *tmp_path.rglob("journal.jsonl")} == storages
    assert (tmp_path / "d" / f"{trial(0)}.yaml").read_bytes() == config
    assert len(run(space, tmp_path / "d", trials=2, storage=first).trials) == 2


def test_workers_that_start_together_have_one_database_id(tmp_path: Path) -> None:
    directories = [SweepDirectory(tmp_path)] * 8
    with ThreadPoolExecutor(8) as workers:  # as on a file system without locks
        ids = set()
        for each in [workers.submit(claim_database_id, each) for each in directories]:
            with contextlib.suppress(CheckpointError):  # it is being written
                ids.add(each.result())
    assert ids == {(tmp_path / "database-id").read_text()}


def test_workers_share_the_trials(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    space = write(f"{BASE}{RANGE}trials: 8\npruner: none\n", tmp_path)
    other = start_worker(space, directory, 0.05)
    wait_for(directory / trial(0) / "metrics.jsonl", lines=1)
    run(space, directory)
    assert other.communicate()[0] == ""
    shown = summarize_sweep(SweepDirectory(directory))
    assert [each.state for each in shown.trials] == ["finished"] * 8
    assert starts(directory) == dict.fromkeys(map(trial, range(8)), 1)


def test_killed_worker_leaves_no_orphan_and_no_gap(tmp_path: Path) -> None:
    """Its run keeps the lock until it is saved; only then another worker continues it."""
    directory = tmp_path / "d"
    space = write(f"{BASE}{RANGE}trials: 2\npruner: none\n", tmp_path)
    worker = start_worker(space, directory, 1)
    wait_for(directory / trial(0) / "metrics.jsonl", lines=1)
    process = child_of(directory, 0)
    worker.kill()
    worker.communicate()
    study = run(space, directory)
    wait_until_ended(process)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    assert starts(directory) == {trial(0): 2, trial(1): 1}
    # The continued run has every epoch once.
    lines = (directory / trial(0) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3, 4]


def test_stopped_worker_saves_its_trial(tmp_path: Path) -> None:
    """The signal also reaches the run, as one of Slurm does, which must not end it early."""
    directory = tmp_path / "d"
    space = write(f"{BASE}{RANGE}trials: 1\n", tmp_path)
    worker = start_worker(space, directory, 0.3)
    wait_for(directory / trial(0) / "metrics.jsonl", lines=1)
    for process in (child_of(directory, 0), worker.pid):
        os.kill(process, signal.SIGTERM)
    output = worker.communicate()[0]
    assert worker.returncode == 143
    assert output == "by SIGTERM; everything is saved\n  hint: ptblm sweep run\n"
    assert not (directory / trial(0) / "result.json").exists()
    assert summarize_sweep(SweepDirectory(directory)).trials[0].state == "running"
    study = run(space, directory)
    assert states(study) == ["COMPLETE"]
    assert starts(directory) == {trial(0): 2}


def test_trial_whose_worker_died_at_the_end_is_not_trained_again(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    ended = states(run(write(grid(0.5, 3.0), tmp_path), directory))
    lines = (directory / "journal.jsonl").read_bytes().splitlines(keepends=True)
    # State 6 is the operation that ends a trial: as if it had not been written.
    kept = [line for line in lines if b'"op_code":6' not in line or b'"state":0' in line]
    (directory / "journal.jsonl").write_bytes(b"".join(kept))
    assert states(run(tmp_path / "space.yaml", directory)) == ended == ["COMPLETE", "FAIL"]
    assert set(starts(directory).values()) == {1}


def test_torn_line_of_the_journal_is_removed(tmp_path: Path) -> None:
    """The worker was killed while it wrote, or the disk was full."""
    directory = tmp_path / "d"
    space = write(f"{BASE}{RANGE}trials: 1\n", tmp_path)
    run(space, directory)
    with (directory / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"op_code":4,"wor')
    study = run(space, directory, trials=2)
    assert states(study) == ["COMPLETE", "COMPLETE"]
    for line in (directory / "journal.jsonl").read_bytes().splitlines():
        json.loads(line)


def test_trial_that_has_just_ended_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker ends it between the look at its state and the look at its lock."""
    space = write(f"{BASE}{RANGE}trials: 1\n", tmp_path)
    study = run(space, tmp_path / "d")
    study.ask()

    def lock_after_the_end(path: Path) -> FileLock | None:
        if path.name == f"{trial(1)}.lock" and study.trials[1].state == TrialState.RUNNING:
            study.tell(1, 5.0)
        return try_lock(path)

    monkeypatch.setattr("ptblm.run.sweep.worker.try_lock", lock_after_the_end)
    assert states(run(space, tmp_path / "d")) == ["COMPLETE", "COMPLETE"]
    assert starts(tmp_path / "d") == {trial(0): 1}


def test_missing_optuna_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptblm.run.sweep.find_spec", lambda _: None)
    with pytest.raises(UsageError) as caught:
        check_optuna()
    assert caught.value.hint == "pip install 'ptblm[sweep]'"


def test_qmc_without_scipy_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptblm.run.sweep.study.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="requires the scipy package"):
        run(write(f"{BASE}{RANGE}trials: 1\nsampler: qmc\n", tmp_path), tmp_path / "d")


@pytest.mark.parametrize("sampler", ["random", "qmc"])
def test_other_samplers_draw_from_the_space(sampler: str, tmp_path: Path) -> None:
    if sampler == "qmc":
        pytest.importorskip("scipy")
    study = run(
        write(f"{BASE}{RANGE}trials: 3\nsampler: {sampler}\npruner: hyperband\n", tmp_path),
        tmp_path / "d",
    )
    rates = [each.params["training.learning_rate"] for each in study.trials]
    assert len(set(rates)) == 3
    assert all(0.1 <= rate <= 1 for rate in rates)
    assert {each.state for each in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95cos\nsystem\n.",  # a pickle
        b"[]\n",
        b'{"op_code": 4}\n',
        b'{"op_code": 99, "worker_id": "a"}\n',
        b"{" * 100_000 + b"\n",
        b"",
    ],
)
def test_damaged_journal_is_one_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_bytes(content)
    with pytest.raises(CheckpointError):
        summarize_sweep(SweepDirectory(tmp_path))
    assert (tmp_path / "journal.jsonl").read_bytes() == content
    assert os.listdir(tmp_path) == ["journal.jsonl"]
