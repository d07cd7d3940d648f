"""Benchmarks evaluation: ptblm, and PyTorch with one token at a time."""

from collections.abc import Callable
from typing import Any

from benchmark.baseline import baseline_model, score_by_token
from benchmark.flags import torch_defaults
from benchmark.hardware import describe_hardware
from benchmark.measure import device_wait, ratios, spread, time_alternately
from benchmark.ptblm_run import (
    copy_weights,
    model_device,
    score,
    setup_run,
    test_ids,
    with_penn_treebank,
)
from ptblm.config.schema import Config

_WINDOWS = 5
# ptblm is faster, so its windows contain this many times as many tokens.
_PTBLM_FACTOR = 10


def bench_evaluation(config: Config, seconds: float = 1.0) -> dict[str, Any]:
    """Measures evaluation of one stream, with the hidden state carried from token to token.

    Args:
        config: the config, with device and text.
        seconds: approximate duration of a window of the PyTorch baseline.

    Returns:
        Tokens per second, their ratio, and the relative difference of both scores.

    Raises:
        ValueError: if the scores differ by more than rounding errors.
    """
    components = setup_run(config)
    device = model_device(components)
    ids = test_ids(components)
    model = baseline_model(components.config, len(components.corpus.vocabulary)).to(device)
    copy_weights(components, model)

    def baseline(count: int) -> float:
        with torch_defaults():
            return score_by_token(model, ids[: count + 1])

    def timed(job: Callable[[], object]) -> float:
        return time_alternately({"": job}, 1, device_wait(device))[""][0]

    few = max(10, min(len(ids) - 1, int(20 * seconds / timed(lambda: baseline(20)))))
    many = min(len(ids) - 1, _PTBLM_FACTOR * few)
    expected, found = baseline(few), score(components, ids[: few + 1])
    difference = abs(found - expected) / expected
    if not difference < 1e-5:
        raise ValueError(
            f"ptblm and PyTorch score differently: relative difference {difference:.1e}"
        )
    windows = time_alternately(
        {"ptblm": lambda: score(components, ids[: many + 1]), "baseline": lambda: baseline(few)},
        _WINDOWS,
        device_wait(device),
    )
    counts = {"ptblm": many, "baseline": few}
    rates = {name: [counts[name] / window for window in windows[name]] for name in counts}
    return {
        "hardware": describe_hardware(device),
        "tokens": counts,
        "score_difference": difference,
        "tokens_per_second": {name: spread(of_name) for name, of_name in rates.items()},
        "ptblm / baseline": ratios(rates["ptblm"], rates["baseline"]),
    }


def bench_test_split(config: Config) -> dict[str, Any] | None:
    """Measures the test evaluation on the Penn Treebank; None if it is not in data/ptb."""
    on_ptb = with_penn_treebank(config)
    if on_ptb is None:
        return None
    components = setup_run(on_ptb)
    ids, wait = test_ids(components), device_wait(model_device(components))
    seconds = time_alternately({"": lambda: score(components, ids)}, 3, wait)[""]
    return {"tokens": len(ids) - 1, "seconds": spread(seconds)}


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """Returns a table of the results of a config."""
    lines = [
        "",
        f"evaluation, {result['config']}, on {result['hardware']}",
        f"one stream, hidden state carried; {_WINDOWS} alternating windows",
    ]
    lines += [
        f"  {contender:<16}{rate.text(0):>28} tokens/s, {result['tokens'][contender]:,} tokens"
        for contender, rate in result["tokens_per_second"].items()
    ]
    lines.append(f"  ptblm / baseline, ratio of tokens/s: {result['ptblm / baseline'].text(2)}")
    lines.append(f"  relative difference of the scores: {result['score_difference']:.0e}")
    if split := result.get("penn_treebank_test"):
        seconds = split["seconds"].text(2)
        lines.append(f"  test split of the Penn Treebank, {split['tokens']:,} tokens: {seconds} s")
    return lines
