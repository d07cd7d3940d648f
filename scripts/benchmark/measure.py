"""Measures time, alternating between jobs, and memory, in a separate process."""

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
    """A median and the quartiles around it.

    Attributes:
        median: the second quartile.
        low: the first quartile.
        high: the third quartile.
    """

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """Format as `1.87 [1.85, 1.90]`."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f} [{low}, {high}]"


def spread(values: list[float]) -> Spread:
    """The median and the quartiles of at least one value."""
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(above: list[float], below: list[float]) -> Spread:
    """Ratios of windows measured one after the other, so that a slow phase affects both."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def time_alternately(
    jobs: Mapping[str, Callable[[], object]], windows: int, wait: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds of each call of each job. The jobs alternate: all once, then all again.

    Args:
        jobs: by name; each call is a window of work. Three calls of each warm it up.
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
    """A job that runs in a separate process each time it is called here.

    Flags, libraries and memory of the calling process do not affect it. The job is called once
    at the start, so that a job that cannot run fails here.

    Args:
        make: module-level function that makes the job in the new process.
        args: arguments of `make`.
        kwargs: keyword arguments of `make`.

    Raises:
        RuntimeError: if the job fails, with its traceback as a note, or does not answer in time.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, args, kwargs), daemon=True)
    process.start()
    there.close()  # so that the end of the process is an EOFError here

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
    """A function that blocks until the device is idle."""
    if device.type == "cuda":
        return torch.cuda.synchronize
    return torch.mps.synchronize if device.type == "mps" else lambda: None


def resident_bytes() -> int:
    """Resident memory of this process."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Makes `peak_bytes` start from the current memory, on Linux."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Peak resident memory of this process.

    Linux's ru_maxrss is not suitable: a child process starts with its parent's value.
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
    """Results with every Spread as a dictionary."""
    if isinstance(value, Spread):
        return vars(value)
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    return value
