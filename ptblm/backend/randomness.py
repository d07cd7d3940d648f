"""Randomness as a function of where one is: seed, purpose and step give the generator.

No generator's state is ever saved. A run that stops at step 1,000 and goes on draws what an
uninterrupted one would have drawn, and evaluation in between can't disturb it.
"""

import hashlib

import torch


def derive_seed(seed: int, purpose: str, step: int = 0) -> int:
    """63 bits that depend on all three; nearby seeds and steps share nothing."""
    text = f"{seed}/{purpose}/{step}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, purpose: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator for draws that happen once, such as the initial weights."""
    return torch.Generator(device).manual_seed(derive_seed(seed, purpose))


def seed_global_generator(device: torch.device, seed: int) -> None:
    """Seeds what draws without a generator of its own, which here only a user's own cell may do.

    (`torch.manual_seed` does the same for all devices at once, at a hundred times the cost.)
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.default_generators[index].manual_seed(seed)
