"""Measures time, in turn, and memory, in a process of its own."""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Spread:
    """A median, and the quartiles around it.

    Attributes:
        median: half of the figures are below it.
        low: a quarter of the figures are below it.
        high: a quarter of the figures are above it.
    """

    median: float
    low: float
    high: float

    def text(self, digits: int) -> str:
        """As in `1.87 [1.85, 1.90]`."""
        low, high = f"{self.low:,.{digits}f}", f"{self.high:,.{digits}f}"
        return f"{self.median:,.{digits}f} [{low}, {high}]"


def spread(figures: list[float]) -> Spread:
    """The median and the quartiles of at least one figure."""
    if len(figures) == 1:
        return Spread(figures[0], figures[0], figures[0])
    low, median, high = statistics.quantiles(figures, n=4, method="inclusive")
    return Spread(median, low, high)


def ratios(above: list[float], below: list[float]) -> Spread:
    """Of windows measured in turn, one by the other, so that what slows both is in neither."""
    return spread([a / b for a, b in zip(above, below, strict=True)])


def time_in_turn(
    jobs: Mapping[str, Callable[[], object]], windows: int, wait: Callable[[], object]
) -> dict[str, list[float]]:
    """Seconds that each call of each job takes: all jobs once, then all again.

    Args:
        jobs: by name; each call is a window of work. Three calls before the first warm it up.
        windows: how often each is timed.
        wait: returns when the device has done all that it was given.
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
    """What a function of a module returns, in a Python process started for it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args, **kwargs).result()


@contextmanager
def apart(
    make: Callable[P, Callable[[], object]], *args: P.args, **kwargs: P.kwargs
) -> Iterator[Callable[[], None]]:
    """A job that a process of its own does whenever it is called here.

    Nothing that this process has set, loaded or kept in memory helps or hinders it.

    Args:
        make: a function of a module, which makes the job there.
        args: for it.
        kwargs: for it.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_do_when_told, args=(there, make, args, kwargs), daemon=True)
    process.start()
    there.close()  # so that the end of that process is an EOFError here

    def job() -> None:
        try:
            here.send(None)
            here.recv()
        except (EOFError, BrokenPipeError):
            raise RuntimeError("the process of its own has ended; above is why") from None

    try:
        yield job
    finally:
        here.close()
        process.join()


def _do_when_told(
    pipe: Connection, make: Callable[..., Callable[[], object]], args: Any, kwargs: Any
) -> None:
    job = make(*args, **kwargs)
    with suppress(EOFError):
        while True:
            pipe.recv()
            job()
            pipe.send(None)


def resident_bytes() -> int:
    """What this process holds of the machine's memory now."""
    return _status("VmRSS")


def forget_peak() -> None:
    """Makes `peak_bytes` count from here on, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """The most memory that this process has held.

    Linux's ru_maxrss won't do: a child starts with its parent's.
    """
    return _status("VmHWM")


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def as_json(value: Any) -> Any:
    """A section's figures with spreads as dictionaries."""
    if isinstance(value, Spread):
        return vars(value)
    if isinstance(value, dict):
        return {key: as_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    return value
