"""Measures start-up times: `--help`, and the time to the first training step."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmark.hardware import describe_hardware
from benchmark.measure import spread
from benchmark.ptblm_run import LOG_EVERY, device_name, pick_device
from ptblm.config.schema import Config

_TIMEOUT = 600  # seconds


def bench_startup(directory: Path, config: Config, name: str, times: int) -> dict[str, Any]:
    """Measures whole processes, after one training run that fills the cache.

    Args:
        directory: directory for the runs.
        config: the config, with device and text.
        name: name of the config.
        times: number of measurements.

    Returns:
        Seconds of `--help`, of `import torch` for comparison, and until metrics.jsonl contains the
        first step.
    """

    def whole_process(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run(  # noqa: S603 - fixed arguments
            [sys.executable, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return time.perf_counter() - start

    def first_step(index: int) -> float:
        run = directory / f"run-{index}"
        arguments = ["train", "--config", name, "--data", config.data.path]
        arguments += ["--device", device_name(config)]
        arguments += ["--run-dir", str(run), "--set", f"{LOG_EVERY}=1"]
        return _seconds_to_first_step(run / "metrics.jsonl", arguments)

    first_step(0)
    return {
        "hardware": describe_hardware(pick_device(device_name(config))),
        "config": name,
        "times": times,
        "help_seconds": spread([whole_process("-m", "ptblm", "--help") for _ in range(times)]),
        "import_torch_seconds": spread([whole_process("-c", "import torch") for _ in range(times)]),
        "first_step_seconds": spread([first_step(1 + index) for index in range(times)]),
    }


def _seconds_to_first_step(metrics: Path, arguments: list[str]) -> float:
    """Returns the seconds until the metrics of a run contain a step; then kills the run.

    Raises:
        RuntimeError: if the run ends before its first step or takes more than ten minutes.
    """
    start = time.perf_counter()
    process = subprocess.Popen(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", "ptblm", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not _has_step(metrics):
            if process.poll() is not None or time.perf_counter() - start > _TIMEOUT:
                break
            time.sleep(0.002)
        else:
            return time.perf_counter() - start
    finally:
        process.kill()
        _, errors = process.communicate()
    raise RuntimeError(f"the run ended before its first step: {errors}")


def _has_step(metrics: Path) -> bool:
    if not metrics.is_file():
        return False
    whole_lines = metrics.read_text(encoding="utf-8").split("\n")[:-1]
    return any(json.loads(line)["kind"] == "step" for line in whole_lines)


def startup_lines(result: dict[str, Any]) -> list[str]:
    """Returns a table of the results."""
    labels = {
        "help_seconds": "ptblm --help",
        "import_torch_seconds": "python -c 'import torch'",
        "first_step_seconds": f"ptblm train --config {result['config']}, to its first step",
    }
    head = [
        "",
        f"start-up of whole processes, on {result['hardware']}; "
        f"median of {result['times']} [quartiles]",
    ]
    return head + [f"  {label:<52}{result[key].text(3)} s" for key, label in labels.items()]
