"""scripts/speedrun.py: complete runs, their statistics, and the time of whole runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ptblm import __version__
from tests.conftest import REPOSITORY, load_script, plain_environment

speedrun = load_script("speedrun")
TINY = """
data: {path: sample}
model: {hidden_size: 4, num_layers: 1}
training: {epochs: 2, batch_size: 50, num_steps: 20}
"""


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts" / "speedrun.py"), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=plain_environment(), check=False
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The path of a config that trains in a second."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def made_runs(tests: list[float]) -> list[Any]:
    return [speedrun.Run(seed, 60.0, 85.0, test, 20.0, "Zen") for seed, test in enumerate(tests)]


def test_complete_runs_are_trained_and_reported(config: Path, tmp_path: Path) -> None:
    options = ["--seeds", "2", "--data", "sample", "--precision", "fp32", "--target", "1000"]
    done = _run("run", str(config), *options, "--runs", str(tmp_path / "runs"))
    assert done.returncode == 1, done.stderr  # no record
    lines = done.stdout.splitlines()
    results = [
        json.loads((tmp_path / "runs" / f"tiny-seed-{seed}" / "result.json").read_text())
        for seed in (1, 2)
    ]
    for line, result, seed in zip(lines[2:4], results, (1, 2), strict=True):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert result["seed"] == int(cells[0]) == seed
        assert float(cells[3]) == pytest.approx(result["test_perplexity"], abs=0.005)
    assert "(n = 2), " in lines[-2]
    assert lines[-2].endswith("minutes; below 1000.0, but a record needs 3 runs")
    assert lines[-1].startswith(f"ptblm {__version__}, torch {torch.__version__}, Python 3.")
    # A finished run is not trained again, so its time is unknown.
    directory = tmp_path / "runs" / "tiny-seed-1"
    again = speedrun.complete_run(str(config), 1, directory, data="sample", precision="fp32")
    assert again.test == results[0]["test_perplexity"]
    assert again.environment == lines[-1]
    *cells, _, _ = lines[2].split("|")
    assert speedrun.run_lines([again], None)[2] == "|".join([*cells, " - |"])


def test_failed_run_ends_with_its_exit_code(tmp_path: Path) -> None:
    done = _run("run", str(tmp_path / "missing.yaml"), "--runs", str(tmp_path))
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr
    assert done.stdout == ""


def test_mean_and_deviation_against_hand_computation() -> None:
    # mean 82.0, sd 0.1: t = (82.7 - 82.0) / (0.1 / sqrt(3)) = 12.1, more than 2.92
    runs = made_runs([81.9, 82.0, 82.1])
    *_, last, environment = speedrun.run_lines(runs, 82.7)
    assert last.startswith("test 82.00 ± 0.10 (n = 3), 20.0 minutes; below 82.7, p < 0.05")
    assert environment == "Zen"
    assert speedrun.is_record(runs, 82.7)
    assert not speedrun.is_record(runs[:2], 82.7)
    other = [*runs[:2], runs[2]._replace(environment="Xeon", minutes=None)]
    assert speedrun.run_lines(other, None)[-3:] == [last.partition(";")[0], "Zen", "Xeon"]


@pytest.mark.parametrize(
    ("tests", "expected"),
    [
        ([80.0, 82.0, 85.0], "; below 82.7, p >= 0.05"),  # sd 2.5, t = 0.25
        ([82.6, 82.8, 82.9], "; not below 82.7"),
    ],
)
def test_runs_that_do_not_reach_the_target(tests: list[float], expected: str) -> None:
    assert expected in speedrun.run_lines(made_runs(tests), 82.7)[-2]
    assert not speedrun.is_record(made_runs(tests), 82.7)


def test_time_of_a_whole_run_is_the_sum_of_its_parts() -> None:
    whole = speedrun.WholeRun(step=0.1, steps=600, valid=2.0, epochs=3, test=4.0)
    assert whole.seconds == pytest.approx(70.0)
    reference = [whole._replace(steps=1200), whole._replace(steps=1200)]
    lines = speedrun.time_lines({"medium": reference, "tiny": [whole, whole]})
    assert "| 1.86 [1.86, 1.86] |" in lines[-1]  # (120 + 10) / 70


def test_time_measures_every_part_of_a_config(config: Path) -> None:
    seconds = {f"{config} {part}": [0.5, 0.5] for part in ("step", "valid", "test")}
    first, _ = speedrun.whole_runs(str(config), "sample", seconds, steps=5)
    assert (first.step, first.valid, first.test) == (0.1, 0.5, 0.5)
    # 40,001 tokens in 50 streams of 800: 39 steps of 20 tokens in each of 2 epochs
    assert (first.steps, first.epochs) == (2 * 39, 2)
    for part in ("step", "valid", "test"):
        speedrun.make_job(str(config), "sample", "fp32", part, 2)()
