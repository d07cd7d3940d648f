"""Start-up: how long a process takes to its help, and to its first step."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.measure import spread
from ptblm.config.schema import Config

_PATIENCE = 600


def bench_startup(directory: Path, config: Config, name: str, times: int) -> dict[str, Any]:
    """Measures whole processes; of those that train, all but the first.

    Args:
        directory: for the runs.
        config: with device and text.
        name: of the config.
        times: that each is started.

    Returns:
        Seconds to the end of `--help`, to the end of `import torch` for comparison, and to the
        first step's record in a run's metrics.jsonl.
    """

    def whole(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run(  # noqa: S603 - our own words
            [sys.executable, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    def first_step(number: int) -> float:
        run = directory / f"run-{number}"
        words = ["train", "--config", name, "--data", config.data.path]
        words += ["--device", config.run.device]
        words += ["--run-dir", str(run), "--set", "run.log_every=1"]
        return _seconds_to_a_step(run / "metrics.jsonl", words)

    first_step(0)
    return {
        "config": name,
        "times": times,
        "help_seconds": spread([whole("-m", "ptblm", "--help") for _ in range(times)]),
        "import_torch_seconds": spread([whole("-c", "import torch") for _ in range(times)]),
        "first_step_seconds": spread([first_step(1 + n) for n in range(times)]),
    }


def _seconds_to_a_step(metrics: Path, words: list[str]) -> float:
    """From a run's start until its metrics have a step; the run is then killed.

    Raises:
        RuntimeError: if it ends before, or has none after ten minutes.
    """
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-m", "ptblm", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not _has_step(metrics):
            if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
                break
            time.sleep(0.002)
        else:
            return time.perf_counter() - start
    finally:
        process.kill()
        _, errors = process.communicate()
    raise RuntimeError(f"a run made no step: {errors}")


def _has_step(metrics: Path) -> bool:
    if not metrics.is_file():
        return False
    whole_lines = metrics.read_text(encoding="utf-8").split("\n")[:-1]
    return any(json.loads(line)["kind"] == "step" for line in whole_lines)


def startup_lines(figures: dict[str, Any]) -> list[str]:
    """A table of the figures."""
    labels = {
        "help_seconds": "ptblm --help",
        "import_torch_seconds": "python -c 'import torch'",
        "first_step_seconds": f"ptblm train --config {figures['config']}, to its first step",
    }
    head = ["", f"start-up, whole processes: median of {figures['times']} [quartiles]"]
    return head + [f"  {label:<52}{figures[key].text(3)} s" for key, label in labels.items()]
