"""Benchmarks training steps of ptblm and of the PyTorch contenders, and the GEMM-only time."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

import torch

from benchmark.baseline import Steps
from benchmark.contenders import (
    BASELINE,
    LEGEND,
    Contender,
    contender_steps,
    contenders_for,
    steps_with_weights_of,
)
from benchmark.gemm_only import gemm_job, step_matmuls
from benchmark.hardware import describe_hardware
from benchmark.measure import (
    device_wait,
    in_fresh_process,
    job_in_separate_process,
    peak_bytes,
    ratios,
    reset_peak,
    resident_bytes,
    spread,
    time_alternately,
)
from benchmark.ptblm_run import (
    StepDone,
    device_name,
    execution_path,
    model_device,
    pick_device,
    precision_of,
    setup_run,
    training_steps,
    with_log_every,
    without_dropout,
)
from ptblm.config.schema import Config

# Maximum relative differences of loss and gradient norm in the same steps. On a CPU, torch's norm
# of a large fp32 tensor is up to 2e-3 too low, and the loss of the second step depends on it.
TOLERANCES = {
    "fp32": (1e-4, 3e-3),
    "tf32": (1e-4, 1e-2),
    "bf16": (5e-4, 3e-2),
    "fp16": (1e-4, 1e-2),
}
GEMM_ONLY = "GEMM only"
_WINDOWS = 20


class DisagreementError(Exception):
    """Two implementations compute different values in the same training steps."""


def bench_train(config: Config, steps: int, *, compiled: bool = False) -> dict[str, Any]:
    """Measures one config at one precision.

    Args:
        config: the config, with device, precision and text.
        steps: number of measured steps per contender, divided into 20 windows.
        compiled: whether to also measure `torch.compile`.

    Returns:
        Tokens per second, milliseconds per step, ratios, peak memory, and the relative difference
        between the losses of ptblm and of each contender.
    """
    precision = precision_of(config)
    contenders = contenders_for(precision, pick_device(device_name(config)), compiled=compiled)
    agreement, skipped = check_contenders(config, contenders)

    count = max(1, steps // _WINDOWS)
    windows = math.ceil(steps / count)
    components = setup_run(with_log_every(config, count))
    vocab_size = len(components.corpus.vocabulary)
    device = model_device(components)
    matmuls = step_matmuls(config, vocab_size)
    run_gemms, methods = gemm_job(matmuls, device, precision)
    jobs: dict[str, Callable[[], object]] = {
        "ptblm": window_of_records(training_steps(components), count)
    }
    with ExitStack() as processes:
        for contender in contenders:
            if contender.name in skipped:
                continue
            job = job_in_separate_process(contender_window, contender, config, count)
            try:
                jobs[contender.name] = processes.enter_context(job)
            except RuntimeError as error:
                if contender == BASELINE:
                    raise
                skipped[contender.name] = str(error)
        jobs[GEMM_ONLY] = _window(iter(run_gemms, object()), count)
        seconds = time_alternately(jobs, windows, device_wait(device))
    measured = [contender for contender in contenders if contender.name in seconds]
    tokens = config.training.batch_size * config.training.num_steps
    pairs = [*((contender.name, "ptblm") for contender in measured), ("ptblm", GEMM_ONLY)]
    return {
        "hardware": describe_hardware(device),
        "precision": precision,
        "tokens_per_step": tokens,
        "vocabulary": vocab_size,
        "windows": windows,
        "steps_per_window": count,
        "relative_difference": agreement,
        "skipped": skipped,
        "path": execution_path(components),
        "tokens_per_second": {
            name: spread([tokens * count / window for window in of_name])
            for name, of_name in seconds.items()
        },
        "ms_per_step": {
            name: spread([1000 * window / count for window in of_name])
            for name, of_name in seconds.items()
        },
        "ratios": {
            f"{above} / {below}": ratios(seconds[above], seconds[below]) for above, below in pairs
        },
        "gflop_per_step": sum(matmul.flop for matmul in matmuls) / 1e9,
        "matmuls": methods,
        "peak_mb": {
            contender.name if contender else "ptblm": in_fresh_process(
                peak_megabytes, config, contender, max(3, count)
            )
            for contender in [None, *measured]
            if not (contender and contender.compiled)  # includes the memory of the compiler
        },
    }


def check_contenders(
    config: Config, contenders: list[Contender]
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Compares the first steps of ptblm and of each contender without dropout.

    Compiled contenders are not compared, because they run the code of the baseline.

    Returns:
        The relative differences by contender, and the reason for each skipped contender.

    Raises:
        DisagreementError: if ptblm and the baseline compute different values.
    """
    components = setup_run(with_log_every(without_dropout(config), 1))
    compared = [contender for contender in contenders if not contender.compiled]
    # Each model copies the initial weights, so all models are created before the first step.
    theirs = [steps_with_weights_of(contender, components) for contender in compared]
    ours = list(islice(training_steps(components), 2))
    differences, skipped = {}, {}
    for contender, steps in zip(compared, theirs, strict=True):
        try:
            differences[contender.name] = check_agreement(ours, steps, precision_of(config))
        except DisagreementError as error:
            if contender == BASELINE:
                raise
            skipped[contender.name] = str(error)
    return differences, skipped


def check_agreement(
    ours: Iterable[StepDone], theirs: Steps, precision: str, steps: int = 2
) -> dict[str, float]:
    """Checks that ptblm and a contender compute the same values without dropout.

    Returns:
        The largest relative differences of losses and of gradient norms.

    Raises:
        DisagreementError: if a difference exceeds the tolerance of the precision.
    """
    differences = {"loss": 0.0, "gradient norm": 0.0}
    for done, (loss, norm) in islice(zip(ours, theirs, strict=False), steps):
        pairs = {"loss": (done.nll / done.tokens, loss.item())}
        if done.grad_norm is not None:
            pairs["gradient norm"] = (done.grad_norm, norm.item())
        for what, (found, expected) in pairs.items():
            differences[what] = max(differences[what], abs(found - expected) / expected)
        if done.grad_norm is None:  # fp16 overflowed and skipped the update, so later steps differ
            break
    for (what, found), largest in zip(differences.items(), TOLERANCES[precision], strict=True):
        if not found < largest:
            raise DisagreementError(
                f"ptblm and PyTorch do not compute the same {what}: relative difference "
                f"{found:.1e}, tolerance for {precision} {largest:.0e}"
            )
    return differences


def contender_window(contender: Contender, config: Config, count: int) -> Callable[[], None]:
    """Returns a function that runs `count` steps of a contender in a separate process."""
    device = pick_device(device_name(config))
    run, wait = _window(contender_steps(contender, config, device), count), device_wait(device)

    def window() -> None:
        run()
        wait()

    return window


def _window(steps: Iterator[object], count: int) -> Callable[[], None]:
    def window() -> None:
        for _ in range(count):
            next(steps)

    return window


def window_of_records(records: Iterator[StepDone], count: int) -> Callable[[], None]:
    """Returns a function that runs `count` steps; a record may cover several steps."""
    done = goal = 0

    def window() -> None:
        nonlocal done, goal
        goal += count
        while done < goal:
            done = next(records).step

    return window


def peak_megabytes(config: Config, contender: Contender | None, steps: int) -> float:
    """Returns the peak memory of training, excluding an idle torch. Call it in a new process.

    On CUDA, this is the device memory after the first step, including CUDA graphs.

    Args:
        config: the config of the run.
        contender: the contender; None measures ptblm.
        steps: number of training steps.
    """
    # The first optimizer loads 100 MB of torch code, which is not memory of training.
    torch.optim.SGD([torch.zeros(1)], lr=1.0).step()
    before = resident_bytes()
    device = pick_device(device_name(config))
    running: Iterator[object] = (
        contender_steps(contender, config, device)
        if contender
        else training_steps(setup_run(config))
    )
    reset_peak()
    if device.type == "cuda":
        next(running)
        torch.cuda.empty_cache()  # releases memory that only the graph capture used
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(steps):
        next(running)
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 1e6
    return (peak_bytes() - before) / 1e6


def train_lines(result: dict[str, Any]) -> list[str]:
    """Returns a table of the results of one config at one precision."""
    how = f"{result['windows']} alternating windows of {result['steps_per_window']} steps"
    lines = [
        "",
        f"training, {result['config']}, {result['precision']}, on {result['hardware']}",
        f"{result['tokens_per_step']} tokens per step, vocabulary {result['vocabulary']:,}; {how}",
        f"  {'':<20}{'tokens/s':>10}  {'ms/step [quartiles]':>28}{'GFLOP/s':>10}{'peak MB':>10}",
    ]
    for contender, ms in result["ms_per_step"].items():
        tokens = result["tokens_per_second"][contender].median
        rate = result["gflop_per_step"] / ms.median * 1000
        peak = result["peak_mb"].get(contender)
        lines.append(
            f"  {contender:<20}{tokens:>10,.0f}  {ms.text(2):>28}{rate:>10,.0f}"
            f"{'' if peak is None else format(peak, ',.0f'):>10}"
        )
    lines += [f"  {pair}, time ratio: {ratio.text(2)}" for pair, ratio in result["ratios"].items()]
    lines += [f"  {name}: skipped: {reason}" for name, reason in result["skipped"].items()]
    for name, differences in result["relative_difference"].items():
        found = ", ".join(f"{what} {value:.0e}" for what, value in differences.items())
        lines.append(f"  relative difference from {name}, without dropout: {found}")
    lines.append(f"  ptblm's execution path: {result['path']}")
    lines.append(f"  {LEGEND}")
    return lines
