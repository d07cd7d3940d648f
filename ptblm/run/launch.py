"""Starts `ptblm` in child processes, several of which can train together (`--processes`)."""

import logging
import os
import sys
from collections.abc import Sequence

from ptblm.errors import LostProcessError

# Seconds between SIGTERM and SIGKILL for a process that does not end.
_SHUTDOWN_TIMEOUT = 60
_CODE = "import sys; sys.path[:] = {!r}; sys.argv[0] = 'ptblm'; from ptblm.cli import main; main()"


def own_command() -> list[str]:
    """Returns the words that start `ptblm` in a child process, with the import path of this one.

    Unlike `-m`, `-c` with -P does not add the current directory, whose files could hide modules.
    """
    return [sys.executable, "-P", "-c", _CODE.format(sys.path)]


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Runs `ptblm ARGUMENTS` in several processes with torch's launcher.

    Args:
        processes: number of processes on this machine.
        arguments: the arguments of the command, with or without `--processes`.

    Returns:
        The exit code of the first process that failed; 0 if none did.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # The processes print their errors themselves.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = max(1, cores // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(),
        shutdown_timeout=_SHUTDOWN_TIMEOUT,
    )
    command = [*own_command(), *_without_processes(arguments)]
    command = [word.replace("$", "$$") for word in command]  # elastic_launch expands ${local_rank}
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        # A process that lost another one is not the cause.
        lost = LostProcessError.exit_code
        failures = error.failures.values()
        first = min(failures, key=lambda each: (each.exitcode == lost, each.timestamp))
        return first.exitcode if first.exitcode > 0 else 128 - first.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _without_processes(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments without the option `--processes N`."""
    rest: list[str] = []
    skips = False
    for argument in arguments:
        if skips or argument.startswith("--processes="):
            skips = False
        elif argument == "--processes":
            skips = True
        else:
            rest.append(argument)
    return rest
