"""Reading a corpus: ptblm, the first time and again, against a plain Python reader."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from make_large_text import make_text

from benchmark.measure import forget_peak, in_fresh_process, peak_bytes, resident_bytes

# The plain reader holds every word as a Python string: it is given this part of the text.
_PART = 10


def bench_corpus(directory: Path, megabytes: int, steps: int = 20) -> dict[str, Any]:
    """Measures reading a text file of so many megabytes, and what training on it holds.

    Args:
        directory: where the text may lie; what ptblm keeps of it lies in PTBLM_CACHE.
        megabytes: size of the text.
        steps: of training.

    Raises:
        ValueError: if ptblm and the plain reader find different texts.
    """
    part = max(1, megabytes // _PART)
    whole_text, part_text = directory / "whole.txt", directory / "part.txt"
    make_text(whole_text, megabytes, seed=0)
    make_text(part_text, part, seed=0)
    figures = {
        "ptblm": in_fresh_process(read_by_ptblm, whole_text),
        "ptblm, again": in_fresh_process(read_by_ptblm, whole_text),
        "plain": in_fresh_process(read_plainly, part_text),
    }
    tokens = in_fresh_process(read_by_ptblm, part_text)["tokens"]
    if tokens != figures["plain"]["tokens"]:
        raise ValueError(f"ptblm reads {tokens:,} tokens, plainly {figures['plain']['tokens']:,}")
    training = in_fresh_process(train_on, whole_text, steps)
    return {"megabytes": megabytes, "read": figures, "training": training}


def train_on(path: Path, steps: int) -> dict[str, float]:
    """Makes steps of the small config, and says what they hold beside the weights.

    Returns:
        The peak of memory over what torch takes by itself, in megabytes; of it the weights and
        their gradients.
    """
    from ptblm.training.gradients import gradient_bytes

    from ptblm.config.loading import load_config
    from ptblm.run.setup import setup_run

    before = resident_bytes()
    forget_peak()
    flags = {"data.path": str(path), "run.device": "cpu"}
    components = setup_run(load_config("small", [], flags))
    records = components.trainer.records()
    for _ in range(steps):
        next(records)
    parameters = components.trainer.optimizer.parameters
    weights = sum(parameter.nbytes for parameter in parameters)
    return {
        "steps": steps,
        "peak_mb": (peak_bytes() - before) / 1e6,
        "weights_and_gradients_mb": (weights + gradient_bytes(parameters)) / 1e6,
        "vocabulary": len(components.corpus.vocabulary),
    }


def read_by_ptblm(path: Path) -> dict[str, float]:
    """Loads a corpus as training does, in a process of its own."""
    from ptblm.corpus.corpus import load_corpus

    def read() -> int:
        return sum(len(split.ids) for split in load_corpus(str(path)).splits.values())

    return _measured(path, read)


def read_plainly(path: Path) -> dict[str, float]:
    """As the tutorial reads: all words as strings, counted, numbered, looked up."""

    def read() -> int:
        words = path.read_text(encoding="utf-8").replace("\n", " <eos> ").split()
        if words[-1] != "<eos>":  # the last line need not end
            words.append("<eos>")
        ranked = sorted(Counter(words).items(), key=lambda pair: (-pair[1], pair[0]))
        ids = {word: number for number, (word, _) in enumerate(ranked)}
        return len(np.array([ids[word] for word in words], dtype=np.int32))

    return _measured(path, read)


def _measured(path: Path, read: Callable[[], int]) -> dict[str, float]:
    """Megabytes a second and the peak of memory of a read, which returns the tokens' number."""
    before = resident_bytes()
    forget_peak()
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


def corpus_lines(figures: dict[str, Any]) -> list[str]:
    """A table of the figures."""
    lines = ["", "reading a text, each in a fresh process"]
    for name, read in figures["read"].items():
        lines.append(
            f"  {name:<16}{read['megabytes_per_second']:>10,.1f} MB/s {read['seconds']:>8.2f} s "
            f"for {read['megabytes']:,.0f} MB; peak memory {read['peak_mb']:,.0f} MB, "
            f"{read['peak_mb'] / read['megabytes']:.2f} for each of the text's"
        )
    training = figures["training"]
    lines.append(
        f"  training on it: {training['vocabulary']:,} words, small config, peak memory "
        f"{training['peak_mb']:,.0f} MB, of it {training['weights_and_gradients_mb']:,.0f} MB for "
        "weights and gradients"
    )
    return lines
