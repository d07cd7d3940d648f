"""Finds what may keep a resumed run from being bit-exact."""

from ptblm.checkpoint.format import Checkpoint, current_versions
from ptblm.run.setup import RunComponents


def reproducibility_warnings(checkpoint: Checkpoint, components: RunComponents) -> list[str]:
    """Returns the reasons why resuming the run may not be bit-exact."""
    before = {**checkpoint.versions, **checkpoint.computing}
    after = {**current_versions(), **components.computing()}
    for computing in (before, after):
        computing["device"] = computing["device"].partition(":")[0]
    names = {
        "device": "the device",
        "ptblm": "the version of ptblm",
        "torch": "the version of torch",
        "hardware": "the processor or GPU",
        "threads": "the number of threads",
        "processes": "the number of processes",
        "matmul": "the library for matrix multiplications",
        "kernel": "the kernel of the recurrent layers",
        "cuda_graph": "the use of a CUDA graph",
        "cell_source": f"the source file of {components.config.model.cell.type}",
    }
    run_before, run_after = checkpoint.parsed_config().run, components.config.run
    changes = [
        (f"run.{key}", getattr(run_before, key), getattr(run_after, key))
        for key in ("precision", "deterministic", "fused")
    ]
    changes += [(name, before[key], after[key]) for key, name in names.items()]
    return [f"{name} was {old!r} and is {new!r}" for name, old, new in changes if old != new]
