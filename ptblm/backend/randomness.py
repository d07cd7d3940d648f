"""Randomness as a function of the seed, the purpose and the step.

No generator state is saved. A resumed run draws the same numbers as an uninterrupted run, and
evaluation between two steps cannot change them.
"""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """Returns a 63-bit seed that depends on all three arguments.

    Hashing keeps the seeds of neighboring runs and steps unrelated.
    """
    text = f"{seed}/{purpose}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, purpose: str) -> torch.Generator:
    """Returns a generator for one-time draws, such as the initial weights."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose))


class StepGenerator(torch.Generator):
    """Draws the random numbers of a training step, independently for each stream.

    A process that trains some streams of the global batch draws the same numbers for them as a
    process that trains all. Values that all streams share, such as a mask of weights, are drawn by
    the generator itself.

    Args:
        device: the device of the numbers.
        batch_size: B, streams of the global batch.
        rows: the streams of this process; None for all.

    Attributes:
        batch_size: B.
        rows: the streams of this process.
        streams: the generators of these streams; empty on a CUDA device, where the numbers of all
            streams are drawn together.
    """

    def __new__(cls, device: torch.device, *_: object) -> "StepGenerator":
        """Creates the generator on its device."""
        return super().__new__(cls, device)  # type: ignore[call-arg]

    def __init__(self, device: torch.device, batch_size: int, rows: slice | None = None) -> None:
        self.batch_size = batch_size
        self.rows = rows or slice(0, batch_size)
        count = self.rows.stop - self.rows.start if device.type == "cpu" else 0
        self.streams = [torch.Generator() for _ in range(count)]


def seed_generators(generator: torch.Generator, seed: int) -> None:
    """Seeds a generator and torch's global generators, which only custom cells use.

    `torch.manual_seed` seeds all devices and takes 80 times as long.
    """
    generator.manual_seed(seed)
    first = 0
    if isinstance(generator, StepGenerator):
        first = generator.rows.start
        for row, stream in enumerate(generator.streams, start=first):
            stream.manual_seed(derive_seed(seed, "stream", row))
    # A custom cell draws different numbers in each process.
    seed_global_generator(generator.device, seed + first)


def seed_global_generator(device: torch.device, seed: int) -> None:
    """Seeds torch's global generator of the CPU, and of `device` if it is a CUDA device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
