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


def make_generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Returns a generator for one-time draws, such as the initial weights."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose))


def seed_generators(generator: torch.Generator, seed: int) -> None:
    """Seeds a generator and torch's global generators, which only custom cells use.

    `torch.manual_seed` seeds all devices and takes 80 times as long.
    """
    generator.manual_seed(seed)
    seed_global_generator(generator.device, seed)


def seed_global_generator(device: torch.device, seed: int) -> None:
    """Seeds torch's global generator of the CPU, and of `device` if it is a CUDA device."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
