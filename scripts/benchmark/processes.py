"""Benchmarks steps of several processes: with and without the exchange between them."""

import json
import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.measure import device_wait, ratios, spread, time_alternately
from benchmark.ptblm_run import device_name, pick_device, setup_run, training_steps, with_log_every
from ptblm.backend.distributed import ONE_PROCESS
from ptblm.backend.joining import joined_world
from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.config.show import config_document
from ptblm.training.step import train_step

_WINDOWS = 20
# Bytes per second of one direction of a network of 25 Gbit/s, at 90%.
_NETWORK = 25e9 / 8 * 0.9


def bench_processes(config: Config, steps: int, directory: Path) -> list[dict[str, Any]]:
    """Measures training steps of one and of two processes with one thread each.

    Each row also contains the time of the steps without the exchange, measured in alternating
    windows. Rows for more machines are computed: the time of the rows of one process, measured in
    one process, and the time of a ring all-reduce of the exchanged gradients over a network of
    25 Gbit/s.

    Args:
        config: the config, with device, precision and text.
        steps: number of measured steps, divided into 20 windows.
        directory: a directory for temporary files.
    """
    count = max(1, steps // _WINDOWS)
    path = directory / "processes.yaml"
    path.write_text(config_document(with_log_every(config, count)), encoding="utf-8")
    batch_size = config.training.batch_size
    found = [_measured(size, path, count, batch_size) for size in (1, 2)]
    sizes = [size for size in (4, 10, 20) if size <= batch_size]
    return found + [_computed(size, found[0], path, count, batch_size) for size in sizes]


def _measured(size: int, path: Path, count: int, batch_size: int) -> dict[str, Any]:
    seconds = _run(size, path, count, batch_size)
    ms = {name: [1000 * s / count for s in times] for name, times in seconds["times"].items()}
    exchange = [a - b for a, b in zip(ms["with"], ms["without"], strict=True)]
    return {
        "processes": size,
        "measured": True,
        "rows": batch_size / size,
        "ms_per_step": spread(ms["with"]),
        "ms_of_exchange": spread(exchange),
        "share": spread([e / t for e, t in zip(exchange, ms["with"], strict=True)]),
        "gradient_bytes": seconds["bytes"],
        "ratio": ratios(ms["with"], ms["without"]),
    }


def _computed(
    size: int, one: dict[str, Any], path: Path, count: int, batch_size: int
) -> dict[str, Any]:
    """Returns the time of steps on machines of one process each."""
    rows = -(-batch_size // size)
    times = _run(1, path, count, rows)["times"]["with"]
    compute = 1000 * spread(times).median / count
    exchange = 1000 * 2 * (size - 1) / size * one["gradient_bytes"] / _NETWORK
    return {
        "processes": size,
        "measured": False,
        "rows": rows,
        "ms_per_step": compute + exchange,
        "ms_of_exchange": exchange,
        "share": exchange / (compute + exchange),
    }


def _run(size: int, path: Path, count: int, batch_size: int) -> dict[str, Any]:
    """Runs the processes, and returns what process 0 prints."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    arguments = [str(path), str(count), str(batch_size)]
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "benchmark.processes", *arguments],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=Path(__file__).parents[1],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    outputs = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError("a process of the benchmark failed")
    result: dict[str, Any] = json.loads(outputs[0].splitlines()[-1])
    return result


def _main(path: str, count: int, batch_size: int) -> None:
    config = load_config(path, [f"training.batch_size={batch_size}"])
    with joined_world() as world:
        trainer = (components := setup_run(config, world=world)).trainer
        records = training_steps(components)

        def train(*, exchanges: bool) -> None:
            # The rows, and with them the computation, stay those of this process.
            chosen = world if exchanges else ONE_PROCESS
            trainer.step = partial(train_step, trainer.parts._replace(world=chosen))
            gather = trainer.model.embedding.gather
            if not exchanges:
                trainer.model.embedding.gather = None
            for _ in range(count):
                next(records)
            trainer.model.embedding.gather = gather

        jobs = {
            "with": lambda: train(exchanges=True),
            "without": lambda: train(exchanges=False),
        }
        wait = device_wait(pick_device(device_name(config)))
        times = time_alternately(jobs, _WINDOWS, wait)
        # Those of the embedding are sparse rows, unless it is tied.
        size = sum(
            (p.grad.coalesce().values() if p.grad.is_sparse else p.grad).nbytes
            for p in trainer.model.parameters()
            if p.grad is not None
        )
    if world.is_main:
        print(json.dumps({"times": times, "bytes": size}))


def processes_lines(name: str, rows: list[dict[str, Any]]) -> list[str]:
    """Returns a Markdown table of the results of `bench_processes`."""
    lines = [
        f"\n{name}",
        "| processes | rows per process | ms per step | share of the exchange | speedup | |",
        "|---:|---:|---:|---:|---:|---|",
    ]
    first = rows[0]["ms_per_step"].median
    for row in rows:
        is_measured = row["measured"]
        ms = row["ms_per_step"].median if is_measured else row["ms_per_step"]
        text = row["ms_per_step"].text(1) if is_measured else f"{ms:.1f}"
        share = row["share"].median if is_measured else row["share"]
        kind = "measured" if is_measured else "computed"
        lines.append(
            f"| {row['processes']} | {row['rows']:g} | {text} | {max(share, 0.0):.0%} | "
            f"{first / ms:.2f} | {kind} |"
        )
    return lines


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
