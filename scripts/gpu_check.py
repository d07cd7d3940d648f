"""Does all that wants a GPU, as far as the time allows, and goes on where it stopped.

    make gpu-check                                   ten minutes, figures in runs/gpu-check
    python scripts/gpu_check.py --minutes 30
    python scripts/gpu_check.py --dry-run            what there is to do; needs no GPU

The tests that need a device, the benchmark, the cost of --deterministic, then whole runs of the
large and the medium config. Each stage leaves its figures in one small file, and its output in
one beside it. What has gone well is not done again: call it until nothing is left.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))  # for a machine where ptblm is not installed
CONFIGS = ("small", "medium", "large")
PRECISIONS = ("fp32", "tf32", "bf16")
# Seconds: what is stopped gets so many to save; so many are for what comes before and after.
GRACE, RESERVE = 45, 15
# The benchmark's windows are a twentieth: the blocks in which a device makes steps.
BENCH_STEPS, PACE_STEPS = 500, 400
PACE_KEYS = ["run.device=cuda", "run.precision=tf32"]
# Of a stage's figures, those that the summary names.
TOLD = ("device", "tests", "cost", "epoch", "valid_perplexity", "test_perplexity")


class Job(NamedTuple):
    """Where a stage works: folders of figures and of whole runs, its end, file of output."""

    out: Path
    runs: Path
    end: float  # of the time, by time.monotonic
    log: Path


class Stage(NamedTuple):
    """A part of the check: what its files are called, what it does, and what does it.

    It is begun only where there are `fewest` seconds, GRACE among them.
    """

    name: str
    does: str
    run: Callable[[Job], dict[str, Any]]
    fewest: float


class StageError(Exception):
    """A stage did not get to its end; `figures` are those that it has."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.figures: dict[str, Any] = {}


def stages() -> list[Stage]:
    """All of them, in their order."""
    return [
        Stage("environment", "what device, driver and torch there are", environment, 10),
        Stage("tests", "the tests that need a CUDA device", gpu_tests, 240),
        *(
            Stage(f"bench-{c}-{p}", f"{c} in {p} against the plain version", bench(c, p), 120)
            for c, p in itertools.product(CONFIGS, PRECISIONS)
        ),
        *(
            Stage(f"deterministic-{c}", f"what --deterministic costs {c}", deterministic(c), 120)
            for c in CONFIGS
        ),
        *(Stage(c, f"a whole run of {c} in tf32", whole_run(c), 90) for c in ("large", "medium")),
    ]


def check(todo: list[Stage], out: Path, runs: Path, end: float) -> bool:
    """Does what is not done yet, until `end`, by time.monotonic.

    Returns:
        Whether all has gone well.
    """
    out.mkdir(parents=True, exist_ok=True)
    for stage in todo:
        if result_of(stage, out).get("ok"):
            print(f"{stage.name}: done already", flush=True)
        elif end - time.monotonic() < stage.fewest:
            print(f"{stage.name}: too little time is left", flush=True)
        else:
            print(f"{stage.name}: {stage.does}", flush=True)
            do(stage, Job(out, runs, end, out / f"{stage.name}.log"))
    results = {stage.name: result_of(stage, out) for stage in todo}
    write(out / "summary.json", results)
    print("\n" + "\n".join(summary(results)))
    return all(result.get("ok") for result in results.values())


def do(stage: Stage, job: Job) -> None:
    """Does a stage, and writes its result."""
    start = time.monotonic()
    result: dict[str, Any] = {"ok": True}
    try:
        result["figures"] = stage.run(job)
    except Exception as error:  # whatever it is, the next stage may do better
        figures = getattr(error, "figures", {})
        because = str(error) if isinstance(error, StageError) else repr(error)
        result = {"ok": False, "because": because, "figures": figures}
        print(f"  {because}; see {job.log}", flush=True)
    write(job.out / f"{stage.name}.json", {**result, "seconds": time.monotonic() - start})


def result_of(stage: Stage, out: Path) -> dict[str, Any]:
    """What a stage has written; nothing if it has not, or was killed while it did."""
    try:
        result = json.loads((out / f"{stage.name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return result if isinstance(result, dict) else {}


def write(path: Path, value: Any) -> None:
    """Writes JSON; the name appears with the whole file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def command(job: Job, *arguments: object) -> None:
    """Runs a Python process, its output going to the stage's log.

    Raises:
        StageError: unless it ends, and well, before the time is up.
    """
    words = [sys.executable, *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    with job.log.open("w", encoding="utf-8") as log:
        # A Ctrl-C is for us, who send one signal on: at a second one a run would not save.
        process = subprocess.Popen(  # noqa: S603 - our own command
            words, stdout=log, stderr=log, cwd=REPOSITORY, env=environment, start_new_session=True
        )
        try:
            code = process.wait(max(1.0, job.end - GRACE - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise StageError("the time was up") from None
        finally:
            end(process)
    if code != 0:
        raise StageError(f"exit code {code}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process if it has not ended, after a while to save, and all that it has started."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(_job: Job) -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    from ptblm.backend.device import choose_device
    from ptblm.reporting.environment import describe_environment

    driver = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(driver, capture_output=True, text=True, timeout=20).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        told = "unknown"
    return {
        **describe_environment(sys.argv, 0, choose_device("cuda")[1]),
        "driver and memory": told.strip(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def gpu_tests(job: Job) -> dict[str, Any]:
    """Runs them; one that is skipped has shown nothing."""
    command(job, "-m", "pytest", "-q", "-m", "gpu", "tests/test_gpu.py")
    said = job.log.read_text(encoding="utf-8").splitlines()[-1]
    if "skipped" in said:
        raise StageError(said)
    return {"tests": said}


def bench(config: str, precision: str) -> Callable[[Job], dict[str, Any]]:
    """What measures a config's training."""

    def run(job: Job) -> dict[str, Any]:
        path = (job.out / f"bench-{config}-{precision}.part").resolve()
        options: list[object] = ["--config", config, "--precision", precision, "--device", "cuda"]
        options += ["--steps", BENCH_STEPS, "--json", path]
        command(job, "scripts/bench.py", "train", *options)
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        return figures

    return run


def deterministic(config: str) -> Callable[[Job], dict[str, Any]]:
    """What measures words per second with and without, each in a process of its own."""

    def run(job: Job) -> dict[str, Any]:
        figures: dict[str, Any] = {}
        for kind in ("usual", "deterministic"):
            path = job.out / "pace.part"
            command(job, __file__, "--pace", config, kind, path.resolve())
            figures[kind] = json.loads(path.read_text(encoding="utf-8"))
            path.unlink()
        words = [figures[kind]["words_per_second"] for kind in ("usual", "deterministic")]
        return {**figures, "cost": 1 - words[1] / words[0]}

    return run


def pace(config: str, kind: str) -> dict[str, Any]:
    """How a config's steps in tf32 are made, and their words per second, the first left out."""
    from ptblm.config.loading import load_config
    from ptblm.run.setup import setup_run
    from ptblm.training.records import StepDone

    mode = f"run.deterministic={str(kind == 'deterministic').lower()}"
    trainer = setup_run(load_config(config, [*PACE_KEYS, mode])).trainer
    steps = (record for record in trainer.records() if isinstance(record, StepDone))
    first = next(steps)
    last = next(record for record in steps if record.batch >= PACE_STEPS)
    seconds = last.epoch_seconds - first.epoch_seconds
    words = last.epoch_tokens - first.epoch_tokens
    return {"path": trainer.stepper.path, "words_per_second": words / seconds}


def whole_run(config: str) -> Callable[[Job], dict[str, Any]]:
    """What trains a config to its end, or as far as there is time."""

    def run(job: Job) -> dict[str, Any]:
        directory = (job.runs / f"gpu-{config}").resolve()
        options = ["--config", config, "--device", "cuda", "--precision", "tf32"]
        options += ["--run-dir", str(directory), "--resume", "auto"]
        metrics, result = directory / "metrics.jsonl", directory / "result.json"
        try:
            command(job, "-m", "ptblm", "train", *options)
        except StageError as error:
            lines = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
            epochs = [found for found in map(json.loads, lines) if found["kind"] == "epoch"]
            error.figures = epochs[-1] if epochs else {}
            raise
        finally:
            for path in filter(Path.exists, (metrics, result)):
                shutil.copyfile(path, job.out / f"{config}-{path.name}")
        figures: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return figures

    return run


def summary(results: dict[str, dict[str, Any]]) -> list[str]:
    """A table: a line for each stage, and those of its figures that people ask for."""
    lines = []
    for name, result in results.items():
        state = "done" if result.get("ok") else result.get("because", "not yet")
        lines.append(f"{name:<22}{result.get('seconds', 0):>7.0f} s  {state}")
        figures = result.get("figures", {})
        for measured in figures.get("train", []):
            words = measured["words_per_second"]["ptblm"]["median"]
            ratios = (f"{of} {ratio['median']:.2f}" for of, ratio in measured["ratios"].items())
            told = f"{words:,.0f} words/s; by time: {', '.join(ratios)}"
            lines.append(f"    {told}; {measured['path']}")
        lines += [f"    {key}: {figures[key]}" for key in TOLD if figures.get(key)]
    return lines


def main() -> int:
    """The command line; returns the exit code."""
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=10, help="in all (10)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check"), help="of the figures")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="of the whole runs")
    parser.add_argument("--dry-run", action="store_true", help="only say what there is to do")
    parser.add_argument("--pace", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pace:
        config, kind, path = given.pace
        write(Path(path), pace(config, kind))
        return 0
    if given.dry_run:
        for stage in stages():
            done = "done" if result_of(stage, given.out).get("ok") else ""
            print(f"{stage.name:<22}{stage.does:<50}{done}".rstrip())
        return 0
    import torch

    if not torch.cuda.is_available():
        print("error: no CUDA device is available to torch", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended, too
    end = start + 60 * given.minutes - RESERVE
    return 0 if check(stages(), given.out, given.runs, end) else 1


if __name__ == "__main__":
    sys.exit(main())
