"""Trains complete runs of a config, and compares their time with that of medium.

    python scripts/speedrun.py run speedrun --target 82.7     complete runs of three seeds
    python scripts/speedrun.py time speedrun speedrun-large   time of whole runs, against medium

`run` measures whole processes of `ptblm train`, from its start to the test perplexity. On a machine
with other work, such times are not comparable. An interrupted run is resumed, and a finished one is
not trained again; their times are not known. With --target, the exit code is 1 if the runs are no
record. `time` measures steps and validations of all configs in alternating windows, and computes
the time of a whole run from them. docs/speedrun.md contains the rules and the records.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from benchmark.measure import job_in_separate_process, ratios, spread, time_alternately

app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)

REFERENCE = "medium"
MIN_RUNS = 3  # of a record
# Quantiles of Student's t distribution: 95% for n - 1 degrees of freedom, n = 2, 3, ...
_T95 = [6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833]

_Data = Annotated[str, typer.Option(metavar="NAME|PATH", help="Corpus.")]
_Precision = Annotated[str, typer.Option(help="Precision of training.")]


class Run(NamedTuple):
    """A complete run.

    Attributes:
        seed: the random seed.
        train: train perplexity of the last epoch.
        valid: valid perplexity after the last epoch.
        test: test perplexity after the last epoch.
        minutes: time of the whole process; None for a run that was resumed.
        environment: versions, processor and number of threads.
    """

    seed: int
    train: float
    valid: float
    test: float
    minutes: float | None
    environment: str


@app.command()
def run(
    config: Annotated[str, typer.Argument(metavar="NAME|FILE", help="Config of the runs.")],
    seeds: Annotated[int, typer.Option(min=1, max=10, help="Number of runs.")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first run.")] = 1,
    target: Annotated[
        float | None, typer.Option(help="Test perplexity that the mean must be below.")
    ] = None,
    data: _Data = "ptb",
    precision: _Precision = "bf16",
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Directory for the runs.")] = Path(
        "runs"
    ),
) -> None:
    """Trains complete runs, one after the other, and prints their results."""
    found: list[Run] = []
    try:
        for seed in range(first_seed, first_seed + seeds):
            directory = runs / f"{Path(config).stem}-seed-{seed}"
            found.append(complete_run(config, seed, directory, data=data, precision=precision))
    finally:
        if found:
            print("\n".join(run_lines(found, target)))
    if target is not None and not is_record(found, target):
        raise typer.Exit(1)


def complete_run(config: str, seed: int, directory: Path, *, data: str, precision: str) -> Run:
    """Trains or resumes a run in a new process, and returns its result.

    Raises:
        typer.Exit: with the exit code of the process, if it fails.
    """
    is_new = not directory.exists()
    minutes = None
    if not (directory / "result.json").exists():
        command = [sys.executable, "-m", "ptblm", "train", "--config", config, "--data", data]
        command += ["--seed", str(seed), "--precision", precision]
        command += ["--run-dir", str(directory), "--resume", "auto"]
        start = time.perf_counter()
        code = subprocess.run(command, check=False, stdout=sys.stderr).returncode  # noqa: S603
        minutes = (time.perf_counter() - start) / 60 if is_new else None
        if code:
            raise typer.Exit(code)
    result, environment = (
        json.loads((directory / name).read_text(encoding="utf-8"))
        for name in ("result.json", "environment.json")
    )
    train, valid, test = (result[f"{split}_perplexity"] for split in ("train", "valid", "test"))
    return Run(seed, train, valid, test, minutes, environment_text(environment))


def environment_text(environment: dict[str, Any]) -> str:
    """Returns versions and hardware of an environment.json."""
    versions, computing = environment["versions"], environment["computing"]
    threads = computing["processes"] * computing["threads"]
    return (
        f"ptblm {versions['ptblm']}, torch {versions['torch']}, Python {versions['python']}; "
        f"{environment['processor']}, {threads} thread{'' if threads == 1 else 's'}"
    )


def is_record(found: Sequence[Run], target: float) -> bool:
    """Returns whether the mean test perplexity of enough runs is below the target, p < 0.05."""
    tests = [r.test for r in found]
    if len(tests) < MIN_RUNS:
        return False
    error = statistics.stdev(tests) / math.sqrt(len(tests))
    return statistics.fmean(tests) + _T95[len(tests) - 2] * error < target


def run_lines(found: Sequence[Run], target: float | None) -> list[str]:
    """Returns a Markdown table of runs, with their mean and standard deviation."""
    lines = ["| seed | train | valid | test | minutes |", "|---:|---:|---:|---:|---:|"]
    for r in found:
        minutes = "-" if r.minutes is None else f"{r.minutes:.1f}"
        lines.append(f"| {r.seed} | {r.train:.2f} | {r.valid:.2f} | {r.test:.2f} | {minutes} |")
    tests = [r.test for r in found]
    mean = statistics.fmean(tests)
    text = f"test {mean:.2f}"
    if len(tests) > 1:
        text += f" ± {statistics.stdev(tests):.2f}"
    text += f" (n = {len(tests)})"
    measured = [r.minutes for r in found if r.minutes is not None]
    if measured:
        text += f", {statistics.fmean(measured):.1f} minutes"
    if target is not None:
        text += f"; {'below' if mean < target else 'not below'} {target}"
        if len(found) < MIN_RUNS:
            text += f", but a record needs {MIN_RUNS} runs"
        elif mean < target:
            text += f", p {'<' if is_record(found, target) else '>='} 0.05 (one-sided t-test)"
    return [*lines, "", text, *dict.fromkeys(r.environment for r in found)]


class WholeRun(NamedTuple):
    """The parts of the time of a run, in seconds, and how often each occurs.

    Attributes:
        step: a training step.
        steps: number of training steps.
        valid: a validation.
        epochs: number of validations.
        test: the test.
    """

    step: float
    steps: int
    valid: float
    epochs: int
    test: float

    @property
    def seconds(self) -> float:
        """Time of the whole run, without its start and its checkpoints, some seconds."""
        return self.step * self.steps + self.valid * self.epochs + self.test


@app.command("time")
def time_of_runs(
    configs: Annotated[list[str], typer.Argument(metavar="NAME|FILE...", help="Configs.")],
    data: _Data = "ptb",
    precision: _Precision = "bf16",
    windows: Annotated[int, typer.Option(min=1, help="Measured windows per config.")] = 15,
    steps: Annotated[int, typer.Option(min=1, help="Training steps in a window.")] = 10,
) -> None:
    """Prints the time of a whole run of each config and its ratio to that of medium."""
    import torch

    from ptblm.reporting.environment import describe_environment

    names = [REFERENCE, *(name for name in configs if name != REFERENCE)]
    with ExitStack() as stack:
        jobs = {}
        for name in names:
            for part in ("step", "valid", "test"):
                arguments = (name, data, precision, part, steps)
                job = job_in_separate_process(make_job, *arguments)
                jobs[f"{name} {part}"] = stack.enter_context(job)
        training = {key: job for key, job in jobs.items() if key.endswith("step")}
        seconds = time_alternately(training, windows, lambda: None)
        scoring = {key: job for key, job in jobs.items() if key not in training}
        seconds |= time_alternately(scoring, 3, lambda: None)
    whole = {name: whole_runs(name, data, seconds, steps) for name in names}
    print("\n".join(time_lines(whole)))
    computing = {"processes": 1, "threads": torch.get_num_threads()}
    print(f"\n{environment_text(describe_environment(sys.argv, 0, computing))}")


def make_job(config: str, data: str, precision: str, part: str, steps: int) -> Callable[[], None]:
    """Returns a function that runs training steps, a validation or the test of a config."""
    from benchmark.ptblm_run import make_config, setup_run, training_steps, with_log_every

    components = setup_run(with_log_every(make_config(config, data, "cpu", precision), steps))
    trainer = components.trainer
    if part == "step":
        records = training_steps(components)

        def train() -> None:
            for _ in range(steps):
                next(records)

        return train

    def evaluate() -> None:
        for _ in trainer.evaluate("valid" if part == "valid" else "test"):
            pass

    return evaluate


def whole_runs(
    config: str, data: str, seconds: dict[str, list[float]], steps: int
) -> list[WholeRun]:
    """Returns the time of a whole run of a config, for each window of training steps."""
    from benchmark.ptblm_run import make_config, steps_per_epoch

    found = make_config(config, data, "cpu", "fp32")
    epochs = found.training.epochs
    valid, test = (spread(seconds[f"{config} {part}"]).median for part in ("valid", "test"))
    return [
        WholeRun(window / steps, epochs * steps_per_epoch(found), valid, epochs, test)
        for window in seconds[f"{config} step"]
    ]


def time_lines(whole: dict[str, list[WholeRun]]) -> list[str]:
    """Returns a Markdown table of whole runs."""
    lines = [
        "| config | epochs | ms per step | validation, s | test, s | minutes | medium / config |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    reference = [run.seconds for run in whole[REFERENCE]]
    for name, runs in whole.items():
        seconds = [run.seconds for run in runs]
        step = spread([1000 * run.step for run in runs]).text(1)
        minutes = spread([s / 60 for s in seconds]).text(1)
        lines.append(
            f"| {name} | {runs[0].epochs} | {step} | {runs[0].valid:.1f} | {runs[0].test:.1f} | "
            f"{minutes} | {ratios(reference, seconds).text(2)} |"
        )
    return lines


if __name__ == "__main__":
    app()
