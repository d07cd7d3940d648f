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
