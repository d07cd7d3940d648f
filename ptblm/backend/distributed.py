"""The processes that train a model together.

Each process computes some rows of the global batch. Gradients and losses are summed over all
processes, so that all make the same update, which is that of one process with the whole batch. The
number of processes is therefore not part of a run.

Shapes: B rows of the global batch, b rows of this process.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ptblm.errors import LostProcessError

# Gradients of up to this many elements, such as biases, share one message.
_SMALL = 2**14


@dataclass
class World:
    """The processes of a run. `World()` is a single process, which exchanges nothing.

    All methods that exchange data must be called by all processes in the same order.

    Attributes:
        rank: number of this process, from 0. Process 0 alone writes files and output.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1
    # Messages in the memory of the host. None is the default group, which also exchanges data on
    # CUDA devices.
    _group: Any = field(default=None, repr=False)
    _parent: int = field(default_factory=os.getppid, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and output."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Returns the rows of a global batch that this process computes; sizes differ by 1."""
        return self._rows_of(self.rank, batch_size)

    def _rows_of(self, rank: int, batch_size: int) -> slice:
        return slice(rank * batch_size // self.size, (rank + 1) * batch_size // self.size)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter], *others: Tensor) -> None:
        """Sums gradients over several processes, in place.

        A gradient that is None in some processes counts as zero there. Gradients on a CUDA device
        must be None in all processes or in none.

        Args:
            parameters: the parameters, in the same order in all processes. No gradient is sparse.
            others: small tensors that are summed in the same message.
        """
        parameters = list(parameters)
        found = [p.grad is not None for p in parameters]
        if not parameters[0].is_cuda:
            counts = torch.tensor(found, dtype=torch.int32)
            self._all_reduce([counts])
            found = (counts > 0).tolist()
        gradients: list[Tensor] = []
        for parameter, is_found in zip(parameters, found, strict=True):
            if is_found and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        small = [g for g in gradients if g.numel() <= _SMALL] + list(others)
        large = [g for g in gradients if g.numel() > _SMALL]
        together = torch.cat([tensor.reshape(-1) for tensor in small])
        self._all_reduce([*large, together])
        parts = together.split([tensor.numel() for tensor in small])
        for tensor, part in zip(small, parts, strict=True):
            tensor.copy_(part.view_as(tensor))

    def sum(self, tensor: Tensor) -> Tensor:
        """Returns the sum of a tensor over all processes."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        self._all_reduce([total])
        return total

    def gather_rows(self, rows: Tensor, batch_size: int, dim: int = 0) -> Tensor:
        """Returns the rows of all processes, in the order of the global batch.

        Args:
            rows: rows of this process; b in dimension `dim`.
            batch_size: B.
            dim: the dimension of the rows.
        """
        if self.size == 1:
            return rows
        slices = [self._rows_of(rank, batch_size) for rank in range(self.size)]
        counts = [part.stop - part.start for part in slices]
        first = rows.transpose(0, dim).contiguous()
        # All parts of a message have the same shape.
        padded = first.new_zeros(max(counts), *first.shape[1:])
        padded[: len(first)] = first
        parts = [torch.empty_like(padded) for _ in slices]
        with lost_process():
            dist.all_gather(parts, padded, group=self._group_of(padded))
        whole = torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
        return whole.transpose(0, dim).contiguous()

    def agree(self, *values: int) -> list[int]:
        """Returns the maximum of each value over all processes."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values)
        with lost_process():
            dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self._group)
        return [int(value) for value in tensor.tolist()]

    def broadcast(self, value: Any) -> Any:
        """Returns the value of process 0. The others may pass any value."""
        if self.size == 1:
            return value
        values = [value if self.is_main else None]
        with lost_process():
            dist.broadcast_object_list(values, group=self._group)
        return values[0]

    def gather(self, value: Any) -> list[Any]:
        """Returns the values of all processes, by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        with lost_process():
            dist.all_gather_object(values, value, group=self._group)
        return values

    def are_equal(self, tensors: Iterable[Tensor]) -> bool:
        """Returns whether tensors are the same, bit by bit, in all processes."""
        if self.size == 1:
            return True
        sums = torch.stack([_checksum(tensor) for tensor in tensors]).cpu()
        largest = torch.cat([sums, -sums])
        with lost_process():
            dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._group)
        return torch.equal(largest[: len(sums)], -largest[len(sums) :])

    def limit_waiting(self, seconds: int) -> None:
        """Sets how long a process waits for the others from now on; later calls do nothing."""
        if self.size > 1 and self._group is None:
            with lost_process():
                self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=seconds))

    def is_orphan(self) -> bool:
        """Returns whether the process that started this one has ended."""
        return self.size > 1 and os.getppid() != self._parent

    def close(self) -> None:
        """Ends the connection to the other processes."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def _all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over all processes, in place."""
        with lost_process():
            works = [
                dist.all_reduce(tensor, group=self._group_of(tensor), async_op=True)
                for tensor in tensors
            ]
            for work in works:
                work.wait()

    def _group_of(self, tensor: Tensor) -> Any:
        return None if tensor.is_cuda else self._group


@contextmanager
def lost_process() -> Iterator[None]:
    """Re-raises a failed exchange with other processes as LostProcessError."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise subclasses of it
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise LostProcessError(_reason(error)) from error


def _reason(error: RuntimeError) -> str:
    """Returns the first sentence of an error of gloo or NCCL, without its location in the code."""
    line = str(error).partition("\n")[0]
    return re.sub(r"^\[[^]]*\.cc:\d+\] ", "", line).partition(". ")[0]


def _checksum(tensor: Tensor) -> Tensor:
    """Returns the sum of the bits of a tensor, taken as integers, modulo 2^64."""
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}
    bits = tensor.detach().contiguous().view(integers[tensor.itemsize])
    return bits.sum(dtype=torch.int64)


ONE_PROCESS = World()
