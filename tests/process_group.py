"""Runs a function or a command in several new processes that are connected as by torchrun."""

import io
import os
import socket
import subprocess
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ptblm.backend.distributed import joined_world
from tests.conftest import plain_environment
from tests.new_process import CONTEXT, StartedCommand


def run_in_processes(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Returns the results of `function(world, *arguments)` in each process, by rank."""
    environments = group_environments(size)
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(size)]
    processes = [
        CONTEXT.Process(target=_call, args=(environment, pipe[1], function, arguments))
        for environment, pipe in zip(environments, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    try:
        for pipe in pipes:
            assert pipe[0].poll(120), "a process did not finish"
        found = [_loaded(pipe[0].recv_bytes()) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()
    errors = [error for _, error in found if error]
    assert not errors, "\n".join(errors)
    return [result for result, _ in found]


def group_environments(size: int) -> list[dict[str, str]]:
    """The environment variables of each process of a group, as torchrun sets them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": str(rank), "LOCAL_RANK": str(rank), **shared} for rank in range(size)]


def _call(
    environment: dict[str, str],
    pipe: "Connection[Any, Any]",
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    try:
        with joined_world() as world:
            result: tuple[Any, str] = (function(world, *arguments), "")
    except Exception:
        result = (None, traceback.format_exc())
    content = io.BytesIO()
    torch.save(result, content)  # a pipe would send tensors as shared memory
    pipe.send_bytes(content.getvalue())


def _loaded(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), weights_only=False)


def start_commands(
    arguments: Sequence[Sequence[object]], cwd: Path, **environment: str
) -> list[StartedCommand]:
    """Starts `ptblm ARGUMENTS` in a process for each list of arguments."""
    return [
        StartedCommand(
            [str(word) for word in words],
            cwd=cwd,
            env={**plain_environment(), "OMP_NUM_THREADS": "1", **group, **environment},
        )
        for words, group in zip(arguments, group_environments(len(arguments)), strict=True)
    ]


def run_commands(
    arguments: Sequence[Sequence[object]], cwd: Path
) -> "list[subprocess.CompletedProcess[str]]":
    """Runs `ptblm ARGUMENTS` in a process for each list of arguments."""
    return [started.wait() for started in start_commands(arguments, cwd)]
