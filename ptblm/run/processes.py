"""Messages between the processes of a run: errors, differences, requests to save or stop."""

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, NoReturn

from ptblm.backend.distributed import World
from ptblm.errors import (
    DataError,
    DifferentWeightsError,
    DivergedError,
    LostProcessError,
    PtblmError,
    UsageError,
)
from ptblm.run.signals import SaveSignal, StopSignal
from ptblm.training.records import Evaluating, Record, RunDone
from ptblm.training.saved_state import collect_state
from ptblm.training.trainer import Trainer


@contextmanager
def errors_of_all(world: World) -> Iterator[None]:
    """Ends all processes if the block raises an error of ptblm in one of them.

    Process 0 raises the error of the first process that failed. The others exit without a message.
    All processes must enter the block.

    Raises:
        PtblmError: in process 0.
        SystemExit: in the other processes, with the exit code of the error.
    """
    error = None
    try:
        yield
    except PtblmError as own:
        if world.size == 1 or isinstance(own, LostProcessError):
            raise
        error = own
    _raise_first(world, error)


def check_same(world: World, facts: Mapping[str, object], texts: Mapping[str, object]) -> None:
    """Checks that processes agree on what decides the result of a run.

    Args:
        world: the processes.
        facts: values that must be equal, by name.
        texts: hashes of texts that must be equal, by name.

    Raises:
        UsageError: in process 0, if facts differ.
        DataError: in process 0, if texts differ.
        SystemExit: in the other processes.
    """
    first, *others = world.gather({**facts, **texts})
    for rank, other in enumerate(others, start=1):
        for name in {**first, **other}:
            ours, theirs = first.get(name), other.get(name)
            if ours == theirs:
                continue
            is_fact = name in facts
            message = f"process {rank}: {name} differs from that of process 0"
            message += f": {theirs} instead of {ours}" if is_fact else ""
            kind = UsageError if is_fact else DataError
            hint = "give all processes the same texts, options and versions"
            raise_once(world, kind(message, hint=hint))


def _raise_first(world: World, error: PtblmError | None) -> None:
    """Raises the error of the first process that has one."""
    own = error and (error.problems, error.where, error.hint, error.exit_code)
    for rank, found in enumerate(world.gather(own)):
        if found is None:
            continue
        if error is None or rank > 0:
            problems, where, hint, exit_code = found
            prefix = f"process {rank}: " if rank > 0 else ""
            error = PtblmError([prefix + problem for problem in problems], where=where, hint=hint)
            error.exit_code = exit_code
        raise_once(world, error)


def raise_once(world: World, error: PtblmError) -> NoReturn:
    """Raises an error in process 0, and SystemExit with its exit code in the other processes."""
    if world.is_main:
        raise error
    raise SystemExit(error.exit_code)


class Requests(NamedTuple):
    """What any of the processes requests after a record.

    Attributes:
        stop: the stop signal that was received, or 0.
        save: the save signal that was received, or 0.
        is_due: whether a checkpoint is due.
    """

    stop: int
    save: int
    is_due: bool


def agreed_requests(
    trainer: Trainer,
    record: Record,
    stop: StopSignal,
    save: SaveSignal,
    timeout: int,
    *,
    is_due: bool = False,
) -> Requests:
    """Returns the requests of all processes after a record that each of them yields.

    If the state is going to be saved, it is collected from all processes.

    Args:
        trainer: the trainer.
        record: the record. Only process 0 yields those of the test.
        stop: records stop signals.
        save: records save signals.
        timeout: seconds that a process waits for the others from the first record on.
        is_due: whether a checkpoint is due, which process 0 decides.

    Raises:
        DifferentWeightsError: in process 0, if the state is going to be saved and the weights
            differ.
        SystemExit: in the other processes.
    """
    world = trainer.world
    # A process whose parent, torchrun, was killed would never be stopped.
    stopped = stop.received or (int(signal.SIGTERM) if world.is_orphan() else 0)
    requests = Requests(stopped, save.take() or 0, is_due)
    if world.size == 1 or is_of_test(record):
        return requests
    world.limit_waiting(timeout)
    first, second, third = world.agree(*map(int, requests))
    requests = Requests(first, second, bool(third))
    if any(requests):
        try:
            collect_state(trainer)
        except DifferentWeightsError as error:
            raise_once(world, error)
    return requests


def is_of_test(record: Record) -> bool:
    """Returns whether only process 0 yields a record."""
    return isinstance(record, RunDone) or (
        isinstance(record, Evaluating) and record.split == "test"
    )


def follow(trainer: Trainer, stop: StopSignal, save: SaveSignal, timeout: int) -> NoReturn:
    """Trains as process 0 does, but without files and output.

    Args:
        trainer: the trainer.
        stop: records stop signals.
        save: records save signals.
        timeout: seconds that a process waits for the others after the first record.

    Raises:
        SystemExit: with the exit code of process 0, which reports how training ended.
    """
    world = trainer.world
    with errors_of_all(world):
        pass  # process 0 opens its files
    try:
        for record in trainer.records():
            if is_of_test(record):
                continue
            requests = agreed_requests(trainer, record, stop, save, timeout)
            if any(requests):
                with errors_of_all(world):
                    pass  # process 0 saves, which torchrun would not wait for
            if requests.stop:
                raise SystemExit(128 + requests.stop)
    except DivergedError as error:
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)
