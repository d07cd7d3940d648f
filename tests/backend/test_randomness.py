"""Seeds derived from seed, purpose and step."""

import torch

from ptblm.backend.randomness import derive_seed, seed_generators


def test_seeds_are_distinct_and_repeatable() -> None:
    """With seed + step, step 2 of seed 1 would share its masks with step 1 of seed 2."""
    seeds = {
        derive_seed(seed, purpose, step)
        for seed in range(20)
        for purpose in ("dropout", "initial weights")
        for step in range(200)
    }
    assert len(seeds) == 20 * 2 * 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(1, "dropout", 2) == derive_seed(1, "dropout", 2)


def test_seeding_covers_the_global_generator() -> None:
    draws = []
    for _ in range(2):
        generator = torch.Generator()
        seed_generators(generator, 7)
        draws.append((torch.rand(3).tolist(), torch.rand(3, generator=generator).tolist()))
    assert draws[0] == draws[1]
