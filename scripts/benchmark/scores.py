"""Benchmarks the scores of `ptblm score` on one CPU thread: columns, and batches of sentences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmark.hardware import describe_hardware
from benchmark.measure import device_wait, ratios, spread, time_alternately
from benchmark.ptblm_run import (
    Measures,
    keep_freed_memory,
    model_device,
    score_sequences,
    setup_run,
    test_ids,
)
from ptblm.config.schema import Config

_WINDOWS = 5
_SHORTEST, _LONGEST = 5, 40  # tokens of a sentence
_COLUMNS = {"surprisal": {}, "all columns": {"entropy": True, "rank": True}}


def bench_scores(config: Config, sentences: int = 256) -> dict[str, Any]:
    """Measures sentences of random lengths, in batches and one at a time.

    Returns:
        Tokens per second, the cost of entropy and rank, and the speedup of batches, which sort the
        sentences by length.
    """
    components = setup_run(config)
    device = model_device(components)
    model = components.trainer.model.eval()
    ids = test_ids(components).cpu().numpy()
    random = np.random.default_rng(0)
    lengths = random.integers(_SHORTEST, _LONGEST + 1, sentences)
    starts = random.integers(0, max(1, len(ids) - _LONGEST), sentences)
    texts = [ids[at : at + n] for at, n in zip(starts.tolist(), lengths.tolist(), strict=True)]
    tokens = sum(map(len, texts))

    def job(columns: dict[str, bool], batch_size: int) -> Callable[[], object]:
        measures = Measures(**columns)
        return lambda: score_sequences(model, texts, 0, measures=measures, batch_size=batch_size)

    jobs = {
        f"{name}, {how}": job(columns, size)
        for name, columns in _COLUMNS.items()
        for how, size in (("batches of 64", 64), ("one at a time", 1))
    }
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = time_alternately(jobs, _WINDOWS, device_wait(device))
    finally:
        torch.set_num_threads(threads)
    alone, columns = seconds["surprisal, batches of 64"], seconds["all columns, batches of 64"]
    return {
        "hardware": describe_hardware(device),
        "tokens": tokens,
        "tokens_per_second": {
            name: spread([tokens / each for each in of_name]) for name, of_name in seconds.items()
        },
        "cost of columns": ratios(columns, alone),
        "speedup of batches": ratios(seconds["surprisal, one at a time"], alone),
        "speedup of batches with columns": ratios(seconds["all columns, one at a time"], columns),
    }


def scores_lines(result: dict[str, Any]) -> list[str]:
    """Returns a table of the results of a config."""
    lines = [
        "",
        f"scores, {result['config']}, one thread of {result['hardware']}",
        f"{result['tokens']:,} tokens in sentences of {_SHORTEST} to {_LONGEST}; {_WINDOWS} "
        "alternating windows; all columns: entropy and rank",
    ]
    lines += [
        f"  {contender:<28}{rate.text(0):>28} tokens/s"
        for contender, rate in result["tokens_per_second"].items()
    ]
    names = ("cost of columns", "speedup of batches", "speedup of batches with columns")
    return lines + [f"  {name}: {result[name].text(2)}" for name in names]
