"""Benchmarks reading a corpus: ptblm, ptblm with its cache, and a simple Python reader."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_large_text import make_text

from benchmark.hardware import describe_hardware
from benchmark.measure import in_fresh_process, peak_bytes, reset_peak, resident_bytes
from benchmark.ptblm_run import (
    make_config,
    read_corpus,
    setup_run,
    weight_and_gradient_bytes,
)

# The simple reader reads only a tenth of the text, because it keeps every word in memory.
_PART = 10


def bench_corpus(directory: Path, megabytes: int, steps: int = 20) -> dict[str, Any]:
    """Measures the speed of reading a text file and the memory of training on it.

    Args:
        directory: directory for the text. The cache is in PTBLM_CACHE.
        megabytes: size of the text in MB.
        steps: number of training steps.

    Raises:
        ValueError: if ptblm and the simple reader count different numbers of tokens.
    """
    part = max(1, megabytes // _PART)
    whole_text, part_text = directory / "whole.txt", directory / "part.txt"
    make_text(whole_text, megabytes, seed=0)
    make_text(part_text, part, seed=0)
    results = {
        "ptblm": in_fresh_process(read_with_ptblm, whole_text),
        "ptblm, cached": in_fresh_process(read_with_ptblm, whole_text),
        "simple Python": in_fresh_process(read_simply, part_text),
    }
    tokens = in_fresh_process(read_with_ptblm, part_text)["tokens"]
    expected = results["simple Python"]["tokens"]
    if tokens != expected:
        raise ValueError(f"ptblm reads {tokens:,} tokens, the simple reader {expected:,}")
    training = in_fresh_process(train_on, whole_text, steps)
    return {
        "hardware": describe_hardware(torch.device("cpu")),
        "megabytes": megabytes,
        "read": results,
        "training": training,
    }


def train_on(path: Path, steps: int) -> dict[str, float]:
    """Trains the small config for a number of steps and measures memory.

    Returns:
        Peak memory in MB, excluding an idle torch, and the memory of weights and gradients.
    """
    before = resident_bytes()
    reset_peak()
    components = setup_run(make_config("small", str(path), "cpu", "fp32"))
    records = components.trainer.records()
    for _ in range(steps):
        next(records)
    weights, gradients = weight_and_gradient_bytes(components)
    return {
        "steps": steps,
        "peak_mb": (peak_bytes() - before) / 1e6,
        "weights_and_gradients_mb": (weights + gradients) / 1e6,
        "vocabulary": len(components.corpus.vocabulary),
    }


def read_with_ptblm(path: Path) -> dict[str, float]:
    """Loads a corpus as training does."""
    config = make_config("small", str(path), "cpu", "fp32")

    def read() -> int:
        return sum(len(split.ids) for split in read_corpus(config).splits.values())

    return _measured(path, read)


def read_simply(path: Path) -> dict[str, float]:
    """Reads like the TensorFlow tutorial: splits, counts and sorts words, then looks up ids."""

    def read() -> int:
        words = path.read_text(encoding="utf-8").replace("\n", " <eos> ").split()
        if words[-1] != "<eos>":  # the last line may lack a newline
            words.append("<eos>")
        ranked = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
        ids = {word: index for index, (word, _) in enumerate(ranked)}
        return len(np.array([ids[word] for word in words], dtype=np.int32))

    return _measured(path, read)


def _measured(path: Path, read: Callable[[], int]) -> dict[str, float]:
    """Measures the speed and peak memory of `read`, which returns the number of tokens."""
    before = resident_bytes()
    reset_peak()
    start = time.perf_counter()
    tokens = read()
    seconds = time.perf_counter() - start
    megabytes = path.stat().st_size / 1e6
    return {
        "megabytes": megabytes,
        "tokens": tokens,
        "seconds": seconds,
        "megabytes_per_second": megabytes / seconds,
        "peak_mb": (peak_bytes() - before) / 1e6,
    }


def corpus_lines(result: dict[str, Any]) -> list[str]:
    """Returns a table of the results."""
    lines = ["", f"reading a text, each in a new process, on {result['hardware']}"]
    for name, read in result["read"].items():
        lines.append(
            f"  {name:<16}{read['megabytes_per_second']:>10,.1f} MB/s {read['seconds']:>8.2f} s "
            f"for {read['megabytes']:,.0f} MB; peak memory {read['peak_mb']:,.0f} MB, "
            f"{read['peak_mb'] / read['megabytes']:.2f} times the text"
        )
    training = result["training"]
    lines.append(
        f"  training on it: vocabulary {training['vocabulary']:,}, small config, peak memory "
        f"{training['peak_mb']:,.0f} MB, including {training['weights_and_gradients_mb']:,.0f} MB "
        "of weights and gradients"
    )
    return lines
