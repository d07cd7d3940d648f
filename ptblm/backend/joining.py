"""Connects a process to those that torchrun, or a cluster, started with it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from ptblm.backend.distributed import ONE_PROCESS, World, lost_process
from ptblm.errors import UsageError

logger = logging.getLogger(__name__)

# Seconds that a process waits for the others until training starts, for example while another one
# encodes a large text.
_START_TIMEOUT = 600


@contextmanager
def joined_world() -> Iterator[World]:
    """Connects this process to those that `torchrun` started with it.

    Without the environment variables of `torchrun`, the world is a single process. Slurm's are used
    if MASTER_ADDR and MASTER_PORT are set.

    Raises:
        UsageError: if the environment variables are incomplete or not numbers.
        LostProcessError: if the others do not connect in time.
    """
    rank, size = _rank_and_size()
    if size == 1:
        yield ONE_PROCESS
        return
    world = World(rank, size)
    if world.is_main and _restarts_block():
        logger.warning(
            "torchrun cannot restart the processes of several machines: start it with "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1, or without --max-restarts"
        )
    timeout = timedelta(seconds=_START_TIMEOUT)
    with lost_process():
        store, _, _ = next(rendezvous("env://", rank, size, timeout=timeout))
        # Processes that torchrun restarts share the store of the previous ones, which still
        # contains their addresses (https://github.com/pytorch/pytorch/issues/135712). On several
        # machines, each torchrun counts its own restarts.
        is_alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if is_alone else "0"
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=dist.PrefixStore(f"ptblm/{attempt}", store),  # type: ignore[attr-defined]
            rank=rank,
            world_size=size,
            timeout=timeout,
        )
    try:
        yield world
    finally:
        world.close()


def _restarts_block() -> bool:
    """Returns whether restarted processes would connect to the previous ones."""
    shares_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    return shares_store and restarts and os.environ.get("GROUP_WORLD_SIZE", "1") != "1"


def local_rank() -> int | None:
    """Returns the number of this process among those on this machine; None for one process."""
    if _rank_and_size()[1] == 1:
        return None
    uses_slurm = "LOCAL_RANK" not in os.environ and "SLURM_LOCALID" in os.environ
    return _number("SLURM_LOCALID" if uses_slurm else "LOCAL_RANK")


def _rank_and_size() -> tuple[int, int]:
    if "RANK" in os.environ or "WORLD_SIZE" in os.environ:
        names = "RANK", "WORLD_SIZE"
    elif {"SLURM_PROCID", "SLURM_NTASKS", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        names = "SLURM_PROCID", "SLURM_NTASKS"
    else:
        return 0, 1
    rank, size = map(_number, names)
    if not 0 <= rank < size:
        raise UsageError(f"{names[0]} is {rank}, but {names[1]} is {size}", hint=_STARTED_BY)
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and missing:
        raise UsageError(f"{names[1]} is {size}, but {missing[0]} is not set", hint=_STARTED_BY)
    return rank, size


_STARTED_BY = "start several processes with torchrun, or unset these environment variables"


def _number(name: str) -> int:
    value = os.environ.get(name)
    if value is None or not value.isdecimal():
        found = "is not set" if value is None else f"is {value!r}"
        raise UsageError(f"the environment variable {name} {found}", hint=_STARTED_BY)
    return int(value)
