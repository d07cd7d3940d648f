"""Where the time of a training step goes, operator by operator."""

from itertools import islice

import torch
from torch.profiler import ProfilerActivity, profile

from benchmark.train import EACH_STEP, ptblm_steps
from ptblm.config.loading import override_config
from ptblm.config.schema import Config
from ptblm.run.setup import setup_run

_WARM_UP = 5


def profile_lines(config: Config, steps: int, rows: int = 20) -> list[str]:
    """The operators that take most of ptblm's training step, as torch's profiler sees them.

    Args:
        config: with device, precision and text.
        steps: that are profiled together.
        rows: of the table.
    """
    components = setup_run(override_config(config, [], EACH_STEP))
    device = next(components.trainer.model.parameters()).device
    made = ptblm_steps(components)
    list(islice(made, _WARM_UP))
    on_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities) as seen:
        list(islice(made, steps))
        if on_cuda:
            torch.cuda.synchronize()
    key = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
    table = seen.key_averages().table(sort_by=key, row_limit=rows, max_name_column_width=50)
    return [f"{steps} training steps of ptblm, {config.run.precision}", table]
