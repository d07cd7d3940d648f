"""Benchmarks heads with a large vocabulary: the loss and its gradients for one step of medium.

Targets are drawn by Zipf's law: the probability of a word is proportional to 1 / (id + 1).
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmark.measure import (
    device_wait,
    in_fresh_process,
    peak_bytes,
    ratios,
    reset_peak,
    resident_bytes,
    spread,
    time_alternately,
)
from benchmark.ptblm_run import keep_freed_memory
from ptblm.config.model import ModelConfig
from ptblm.model.build import make_head

VOCAB_SIZE = 250_000
_NUM_FEATURES, _POSITIONS = 650, 700

# Keys of `model.head` by the name in the table of results.
HEADS: dict[str, object] = {
    "softmax": "softmax",
    "adaptive": "adaptive",
    "adaptive, 20k 60k": {"type": "adaptive", "cutoffs": [20_000, 60_000]},
    "adaptive, 4k 40k 200k": {"type": "adaptive", "cutoffs": [4_000, 40_000, 200_000]},
}


def head_job(
    keys: object, vocab_size: int, device: torch.device
) -> tuple[Callable[[], object], int]:
    """Returns a function that computes the loss and the gradients, and the number of weights."""
    config = ModelConfig.model_validate({"head": keys})
    head = make_head(config, _NUM_FEATURES, vocab_size).to(device)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in head.parameters():
            weight.copy_(torch.empty(weight.shape).uniform_(-0.05, 0.05, generator=generator))
    p = 1 / torch.arange(1, vocab_size + 1, dtype=torch.float64)
    targets = torch.multinomial(p, _POSITIONS, replacement=True, generator=generator).to(device)
    features = torch.randn(_POSITIONS, _NUM_FEATURES, generator=generator)
    features = features.to(device).requires_grad_()

    def run() -> None:
        head.zero_grad(set_to_none=True)
        features.grad = None
        loss, _ = head.loss(features, targets, 1 / 20)
        loss.backward()

    return run, sum(weight.numel() for weight in head.parameters())


def bench_heads(
    device: torch.device, windows: int, vocab_size: int = VOCAB_SIZE
) -> list[dict[str, Any]]:
    """Measures steps of all heads alternately, and the memory of each in a new process.

    Args:
        device: the device.
        windows: number of measured steps.
        vocab_size: V.

    Returns:
        For each head: its parameters, milliseconds and words per second, how many times as fast as
        the softmax it is, and on a CPU the megabytes of weights, gradients and the step.
    """
    keep_freed_memory()
    jobs, sizes = {}, {}
    for name, keys in HEADS.items():
        jobs[name], sizes[name] = head_job(keys, vocab_size, device)
    seconds = time_alternately(jobs, windows, device_wait(device))
    on_cpu = device.type == "cpu"
    return [
        {
            "head": name,
            "vocabulary": vocab_size,
            "parameters": sizes[name],
            "ms_per_step": spread([1000 * each for each in times]),
            "words_per_second": spread([_POSITIONS / each for each in times]),
            "speedup": ratios(seconds["softmax"], times),
            "megabytes": in_fresh_process(_megabytes, HEADS[name], vocab_size) if on_cpu else None,
        }
        for name, times in seconds.items()
    ]


def _megabytes(keys: object, vocab_size: int) -> float:
    """Returns the peak memory of steps on a CPU, without that of Python and torch."""
    torch.ones(64, 64) @ torch.ones(64, 64)  # libraries allocate their memory
    reset_peak()
    before = resident_bytes()
    run, _ = head_job(keys, vocab_size, torch.device("cpu"))
    for _ in range(2):
        run()
    return (peak_bytes() - before) / 1e6


def heads_lines(results: list[dict[str, Any]]) -> list[str]:
    """Returns a table of the results."""
    vocabulary = f"{results[0]['vocabulary']:,} words"
    lines = [
        "",
        f"heads, {vocabulary}, {_NUM_FEATURES} features, {_POSITIONS} targets",
        f"  {'':<24}{'parameters':>14}{'ms per step':>28}{'words/s':>10}{'speedup':>10}{'MB':>8}",
    ]
    for found in results:
        megabytes = "" if found["megabytes"] is None else f"{found['megabytes']:,.0f}"
        lines.append(
            f"  {found['head']:<24}{found['parameters']:>14,}{found['ms_per_step'].text(0):>28}"
            f"{found['words_per_second'].median:>10,.0f}{found['speedup'].median:>10.1f}"
            f"{megabytes:>8}"
        )
    return lines
