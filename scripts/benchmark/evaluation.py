"""Evaluation: ptblm's of one stream, against stepping one word at a time."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmark.flags import torch_defaults
from benchmark.floor import device_wait
from benchmark.measure import ratios, spread, time_in_turn
from benchmark.plain import copy_weights, plain_model, plain_score
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.corpus.splits import corpus_path
from ptblm.errors import DataError
from ptblm.evaluation.scorer import running_scores
from ptblm.run.setup import RunComponents, setup_run

_WINDOWS = 5
# The plain version is slow: it gets a second's worth of words, and ptblm so many times as many.
_MORE = 10


def bench_evaluation(config: Config, seconds: float = 1.0) -> dict[str, Any]:
    """Measures the test protocol: one stream, its state carried from the first word to the last.

    Args:
        config: with device and text.
        seconds: that a window of the plain version is to take, about.

    Returns:
        Words per second, their ratio, and how far the two scores are apart.

    Raises:
        ValueError: if both do not compute the same.
    """
    components = setup_run(config)
    device = next(components.trainer.model.parameters()).device
    words = torch.from_numpy(components.corpus.splits["test"].ids.copy()).long().to(device)
    model = plain_model(components.config, len(components.corpus.vocabulary)).to(device)
    copy_weights(components.trainer.model, model, config.model.cell.options["forget_bias"])

    def plain(count: int) -> float:
        with torch_defaults():
            return plain_score(model, words[: count + 1])

    def timed(job: Callable[[], object]) -> float:
        return time_in_turn({"": job}, 1, device_wait(device))[""][0]

    few = max(10, min(len(words) - 1, int(20 * seconds / timed(lambda: plain(20)))))
    many = min(len(words) - 1, _MORE * few)
    wanted, found = plain(few), score(components, words[: few + 1])
    apart = abs(found - wanted) / wanted
    if not apart < 1e-5:
        raise ValueError(f"ptblm and the plain version do not score the same: {apart:.1e} apart")
    took = time_in_turn(
        {"ptblm": lambda: score(components, words[: many + 1]), "plain": lambda: plain(few)},
        _WINDOWS,
        device_wait(device),
    )
    rates = {
        name: [count / window for window in took[name]]
        for name, count in (("ptblm", many), ("plain", few))
    }
    return {
        "words": {"ptblm": many, "plain": few},
        "score_difference": apart,
        "words_per_second": {name: spread(of_name) for name, of_name in rates.items()},
        "ptblm / plain": ratios(rates["ptblm"], rates["plain"]),
    }


def score(components: RunComponents, words: Tensor) -> float:
    """Summed nats of ids ([N + 1]) as ptblm's test protocol has it; the first is given."""
    marks = components.corpus.vocabulary.marks
    text = words.view(1, -1)
    trainer = components.trainer
    with trainer.precision.exact():
        *_, last = running_scores(trainer.model, text[:, :-1], text[:, 1:], marks=marks)
    return last.nll


def bench_test_split(config: Config) -> dict[str, Any] | None:
    """Times a config's test on the Penn Treebank; None where that is not at hand."""
    try:
        corpus_path("ptb", "word")
    except DataError:
        return None
    components = setup_run(override_config(config, [], {"data.path": "ptb"}))
    device = next(components.trainer.model.parameters()).device
    words = torch.from_numpy(components.corpus.splits["test"].ids.copy()).long().to(device)
    took = time_in_turn({"": lambda: score(components, words)}, 3, device_wait(device))[""]
    return {"words": len(words) - 1, "seconds": spread(took)}


def evaluation_lines(figures: dict[str, Any]) -> list[str]:
    """A table of the figures of a config."""
    lines = [
        "",
        f"evaluation, {figures['config']}: one stream, state carried; {_WINDOWS} windows in turn",
    ]
    lines += [
        f"  {contender:<16}{rate.text(0):>28} words/s, of {figures['words'][contender]:,} words"
        for contender, rate in figures["words_per_second"].items()
    ]
    lines.append(f"  ptblm / plain, by words/s: {figures['ptblm / plain'].text(2)}")
    lines.append(f"  same score, to {figures['score_difference']:.0e}")
    if split := figures.get("penn_treebank_test"):
        took = split["seconds"].text(2)
        lines.append(f"  the Penn Treebank's test split, {split['words']:,} words: {took} s")
    return lines
