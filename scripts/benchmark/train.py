"""Training: (a) ptblm's own step, (b) the plain version's, (c) the step's products alone."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from benchmark.flags import plain_flags
from benchmark.floor import device_wait, floor_job, step_products
from benchmark.measure import (
    apart,
    forget_peak,
    in_fresh_process,
    peak_bytes,
    ratios,
    resident_bytes,
    spread,
    time_in_turn,
)
from benchmark.plain import copy_weights, plain_model, plain_steps, plain_text
from ptblm.backend.device import choose_device
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.corpus.corpus import load_corpus
from ptblm.errors import UsageError
from ptblm.run.setup import RunComponents, setup_run
from ptblm.training.records import StepDone

PlainSteps = Iterator[tuple[Tensor, Tensor]]

# How far the losses and the gradient norms of the same steps may be apart, relative to themselves.
TOLERANCES = {
    "fp32": (1e-5, 1e-4),
    "tf32": (1e-4, 1e-2),
    "bf16": (5e-4, 3e-2),
    "fp16": (1e-4, 1e-2),
}
_WINDOWS = 20
# On CUDA figures are read where they are logged, and else by the block.
EACH_STEP = {"run.log_every": 1}


def bench_train(config: Config, steps: int) -> dict[str, Any]:
    """Measures one config at one precision.

    Args:
        config: with device, precision and text.
        steps: of each contender, in windows of a twentieth.

    Returns:
        Words per second, milliseconds a step, ratios, peak memory, and how far the losses of
        ptblm and the plain version are apart.
    """
    precision = config.run.precision
    quiet = setup_run(override_config(config, [], {"model.dropout": 0.0, **EACH_STEP}))
    difference = refuse_difference(ptblm_steps(quiet), plain_steps_like(quiet), precision)
    del quiet

    count = max(1, steps // _WINDOWS)
    components = setup_run(override_config(config, [], {"run.log_every": count}))
    vocab_size = len(components.corpus.vocabulary)
    device = next(components.trainer.model.parameters()).device
    products = step_products(config, vocab_size)
    floor, ways = floor_job(products, device, precision)
    plain = {"plain": "fp32"} | ({} if precision == "fp32" else {f"plain {precision}": precision})
    jobs: dict[str, Callable[[], object]] = {
        "ptblm": window_of_records(ptblm_steps(components), count)
    }
    windows = math.ceil(steps / count)
    with ExitStack() as processes:
        for name, kind in plain.items():
            job = apart(plain_window, config, kind, count)
            jobs[name] = processes.enter_context(job)
        jobs["products alone"] = _window(iter(floor, object()), count)
        seconds = time_in_turn(jobs, windows, device_wait(device))
    tokens = config.training.batch_size * config.training.num_steps
    return {
        "precision": precision,
        "tokens_per_step": tokens,
        "vocabulary": vocab_size,
        "windows": windows,
        "steps_per_window": count,
        "apart": difference,
        "path": components.trainer.stepper.path,
        "words_per_second": {
            name: spread([tokens * count / window for window in of_name])
            for name, of_name in seconds.items()
        },
        "ms_per_step": {
            name: spread([1000 * window / count for window in of_name])
            for name, of_name in seconds.items()
        },
        "ratios": {
            f"{above} / {below}": ratios(seconds[above], seconds[below])
            for above, below in [*((name, "ptblm") for name in plain), ("ptblm", "products alone")]
        },
        "gflop_per_step": sum(product.flop for product in products) / 1e9,
        "products": ways,
        "peak_mb": {
            name: in_fresh_process(peak_megabytes, config, plain.get(name), max(3, count))
            for name in ("ptblm", *plain)
        },
    }


def ptblm_steps(components: RunComponents) -> Iterator[StepDone]:
    """The steps of a real run.

    Raises:
        UsageError: where the text ends.
    """
    for record in components.trainer.records():
        if not isinstance(record, StepDone):
            break
        yield record
    raise UsageError("the text is too short for so many steps", hint="fewer --steps")


def plain_steps_like(components: RunComponents, precision: str = "fp32") -> PlainSteps:
    """The plain version's steps, with the weights and the text of a run that has not begun."""
    config, corpus = components.config, components.corpus
    device = next(components.trainer.model.parameters()).device
    model = plain_model(config, len(corpus.vocabulary)).to(device)
    copy_weights(components.trainer.model, model, config.model.cell.options["forget_bias"])
    text = plain_text(corpus, config, device)
    return _between_ours(plain_steps(model, text, config.training, precision), precision, device)


def _between_ours(steps: PlainSteps, precision: str, device: torch.device) -> PlainSteps:
    """The same steps, in turn with ptblm's, which has flags of its own."""
    while True:
        with plain_flags(precision, device):
            step = next(steps, None)
        if step is None:
            return
        yield step


def plain_window(config: Config, precision: str, count: int) -> Callable[[], None]:
    """So many steps of the plain version, weights and all of its own; for a process of its own."""
    device, _ = choose_device(config.run.device)
    steps, wait = _window(plain_run(config, precision, device), count), device_wait(device)

    def window() -> None:
        steps()
        wait()

    return window


def plain_run(config: Config, precision: str, device: torch.device) -> PlainSteps:
    """The plain version's steps, from weights of torch's choice; for a process of its own."""
    corpus = load_corpus(config.data.path, config.data.tokenizer)
    model = plain_model(config, len(corpus.vocabulary)).to(device)
    text = plain_text(corpus, config, device)
    return _by_themselves(plain_steps(model, text, config.training, precision), precision, device)


def _by_themselves(steps: PlainSteps, precision: str, device: torch.device) -> PlainSteps:
    with plain_flags(precision, device):
        yield from steps


def refuse_difference(
    ours: Iterator[StepDone], plain: PlainSteps, precision: str, steps: int = 2
) -> dict[str, float]:
    """Sees to it that both compute the same in their first steps; dropout must be off.

    Returns:
        How far losses, and how far gradient norms are apart at most, relative to themselves.

    Raises:
        ValueError: if that is further than the precision explains.
    """
    difference = {"loss": 0.0, "gradient norm": 0.0}
    for done, (nats, norm) in islice(zip(ours, plain, strict=False), steps):
        pairs = {"loss": (done.nll / done.tokens, nats.item())}
        if done.grad_norm is not None:
            pairs["gradient norm"] = (done.grad_norm, norm.item())
        for what, (found, wanted) in pairs.items():
            difference[what] = max(difference[what], abs(found - wanted) / wanted)
        if done.grad_norm is None:  # fp16 overflowed and made no update: from here on they differ
            break
    for (what, found), explained in zip(difference.items(), TOLERANCES[precision], strict=True):
        if not found < explained:
            raise ValueError(
                f"ptblm and the plain version do not compute the same: by {what} they are "
                f"{found:.1e} apart, and {precision} explains {explained:.0e}"
            )
    return difference


def _window(steps: Iterator[object], count: int) -> Callable[[], None]:
    """What makes so many steps at each call."""

    def window() -> None:
        for _ in range(count):
            next(steps)

    return window


def window_of_records(records: Iterator[StepDone], count: int) -> Callable[[], None]:
    """The same of a run, whose records may tell of more than one step, but end where it ends."""
    made = goal = 0

    def window() -> None:
        nonlocal made, goal
        goal += count
        while made < goal:
            made = next(records).step

    return window


def peak_megabytes(config: Config, plain: str | None, steps: int) -> float:
    """What training takes beyond an idle torch: text, weights, gradients, activations.

    For a process of its own. On CUDA it is the device's memory, a graph's own included; else the
    process's. From its first step on.

    Args:
        config: of the run.
        plain: precision of the plain version; None for ptblm itself.
        steps: to take.
    """
    # The first optimizer makes torch load a hundred MB of its own code; that is not training's.
    torch.optim.SGD([torch.zeros(1)], lr=1.0).step()
    before = resident_bytes()
    device, _ = choose_device(config.run.device)
    made: Iterator[object] = (
        ptblm_steps(setup_run(config)) if plain is None else plain_run(config, plain, device)
    )
    forget_peak()
    if device.type == "cuda":
        next(made)
        torch.cuda.empty_cache()  # what only the beginning took: a captured step was tried out
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(steps):
        next(made)
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    return (peak_bytes() - before) / 1e6


def train_lines(figures: dict[str, Any]) -> list[str]:
    """A table of the figures of a config."""
    took = f"{figures['windows']} windows of {figures['steps_per_window']} steps each, in turn"
    lines = [
        "",
        f"training, {figures['config']}, {figures['precision']}: "
        f"{figures['tokens_per_step']} words a step, {figures['vocabulary']:,} different; {took}",
        f"  {'':<16}{'words/s':>10}  {'ms a step [quartiles]':>28}{'GFLOP/s':>10}{'peak MB':>10}",
    ]
    for contender, ms in figures["ms_per_step"].items():
        words = figures["words_per_second"][contender].median
        rate = figures["gflop_per_step"] / ms.median * 1000
        peak = figures["peak_mb"].get(contender)
        lines.append(
            f"  {contender:<16}{words:>10,.0f}  {ms.text(2):>28}{rate:>10,.0f}"
            f"{'' if peak is None else format(peak, ',.0f'):>10}"
        )
    lines += [f"  {what}, by time: {ratio.text(2)}" for what, ratio in figures["ratios"].items()]
    apart = (f"{what} to {by:.0e}" for what, by in figures["apart"].items())
    lines.append(f"  dropout off, ptblm and plain compute the same: {', '.join(apart)}")
    lines.append(f"  ptblm's steps: {figures['path']}")
    return lines
