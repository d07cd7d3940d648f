"""Measures the time of alternating jobs, and memory in separate processes."""

import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_TIMEOUT = 300  # seconds; torch.compile takes a minute


@dataclass(frozen=True)
class Spread:
    """A median with the first and third quartiles.

    Attributes:
        median: the second quartile.
        low: the first quartile.
        high: the third quartile.
    """

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Returns text such as `1.87 [1.85, 1.90]`."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f} [{low}, {high}]"


def spread(values: list[float]) -> Spread:
    """Returns the median and quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(above: list[float], below: list[float]) -> Spread:
    """Returns ratios of consecutive windows, so that a slow phase affects both windows."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def time_alternately(
    jobs: Mapping[str, Callable[[], object]], windows: int, wait: Callable[[], object]
) -> dict[str, list[float]]:
    """Measures the seconds of each call of each job. The jobs alternate.

    Args:
        jobs: functions by name. Each call is a window of work. The first three calls are warm-up.
        windows: number of timed calls of each job.
        wait: blocks until the device is idle.
    """
    for job in jobs.values():
        for _ in range(3):
            job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(windows):
        for name, job in jobs.items():
            wait()
            start = time.perf_counter()
            job()
            wait()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def in_fresh_process(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a module-level function in a new Python process and returns its result."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


@contextmanager
def job_in_separate_process(
    make: Callable[P, Callable[[], object]], *args: P.args, **kwargs: P.kwargs
) -> Iterator[Callable[[], None]]:
    """Starts a job in a separate process; each call of the yielded function runs the job once.

    Flags, libraries and memory of the calling process do not affect the job. The job is called once
    at the start, so that errors are raised here.

    Args:
        make: module-level function that creates the job in the new process.
        args: arguments of `make`.
        kwargs: keyword arguments of `make`.

    Raises:
        RuntimeError: if the job fails (with its traceback as a note) or times out.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, args, kwargs), daemon=True)
    process.start()
    there.close()  # so that the end of the process raises EOFError here

    def job() -> None:
        try:
            here.send(None)
            if not here.poll(_TIMEOUT):
                raise RuntimeError(f"no answer in {_TIMEOUT} seconds")
            error = here.recv()
        except (EOFError, BrokenPipeError):
            raise RuntimeError("the process of the job ended unexpectedly") from None
        if error is not None:
            summary, details = error
            failure = RuntimeError(summary)
            failure.add_note(details)
            raise failure

    try:
        job()
        yield job
    finally:
        here.close()
        process.join(10)
        process.kill()


def _serve(
    pipe: Connection, make: Callable[..., Callable[[], object]], args: Any, kwargs: Any
) -> None:
    try:
        job = make(*args, **kwargs)
        with suppress(EOFError):
            while True:
                pipe.recv()
                job()
                pipe.send(None)
    except Exception as error:
        summary = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        pipe.send((summary, traceback.format_exc()))


def device_wait(device: torch.device) -> Callable[[], object]:
    """Returns a function that blocks until the device is idle."""
    if device.type == "cuda":
        return torch.cuda.synchronize
    return torch.mps.synchronize if device.type == "mps" else lambda: None


def resident_bytes() -> int:
    """Returns the resident memory of this process."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Resets `peak_bytes` to the current memory on Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Returns the peak resident memory of this process.

    ru_maxrss is not suitable on Linux, because a child process inherits the value of its parent.
    """
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # macOS
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def as_json(value: Any) -> Any:
    """Converts every Spread in results to a dictionary."""
    if isinstance(value, Spread):
        return vars(value)
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    return value
