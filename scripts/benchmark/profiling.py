"""Profiles a training step by operator."""

from itertools import islice

import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.ptblm_run import (
    model_device,
    precision_of,
    setup_run,
    training_steps,
    with_log_every,
)
from ptblm.config.schema import Config

_WARM_UP = 5


def profile_lines(config: Config, steps: int, rows: int = 20) -> list[str]:
    """Returns a table of the operators that take the most time, from the torch profiler.

    Args:
        config: the config, with device, precision and text.
        steps: number of profiled steps.
        rows: number of operators in the table.
    """
    components = setup_run(with_log_every(config, 1))
    device = model_device(components)
    running = training_steps(components)
    list(islice(running, _WARM_UP))
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as profiler:
        list(islice(running, steps))
        if on_cuda:
            torch.cuda.synchronize()
    key = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
    table = profiler.key_averages().table(sort_by=key, row_limit=rows, max_name_column_width=50)
    return [f"{steps} training steps of ptblm, {precision_of(config)}", table]
