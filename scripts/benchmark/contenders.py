"""The PyTorch programs to compare ptblm with.

All programs train the same model, benchmark/baseline.py, with the same loop. They differ only in
common performance settings of PyTorch.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from benchmark.baseline import Steps, baseline_model, train_steps
from benchmark.flags import cuda_fp32_precision, medium_matmul_precision, torch_defaults
from benchmark.ptblm_run import (
    RunComponents,
    copy_weights,
    keep_freed_memory,
    model_device,
    read_corpus,
    training_text,
)
from ptblm.config.schema import Config


@dataclass(frozen=True)
class Contender:
    """A configuration of the PyTorch baseline.

    Attributes:
        name: the label in tables and in the JSON line.
        autocast: the dtype of autocast, "bf16" or "fp16"; None trains in fp32.
        cuda_fp32: precision of fp32 operations on CUDA, "ieee" or "tf32".
        medium: whether to call `torch.set_float32_matmul_precision("medium")`.
        keep_memory: whether the C library keeps freed memory for the next step.
        compiled: whether the model is compiled with `torch.compile`.
    """

    name: str
    autocast: str | None = None
    cuda_fp32: str = "ieee"
    medium: bool = False
    keep_memory: bool = False
    compiled: bool = False

    def flags(self, device: torch.device) -> AbstractContextManager[None]:
        """Returns a context manager that sets the torch flags of this contender."""
        if device.type == "cuda" and not self.autocast:
            return cuda_fp32_precision(self.cuda_fp32)
        return medium_matmul_precision() if self.medium else torch_defaults()


BASELINE = Contender("PyTorch baseline")
TUNED = Contender("PyTorch tuned", medium=True, keep_memory=True)
COMPILED = Contender("torch.compile", compiled=True)
AUTOCAST = Contender("autocast bf16", autocast="bf16")
TUNED_AUTOCAST = Contender("autocast bf16 tuned", autocast="bf16", keep_memory=True)
COMPILED_AUTOCAST = Contender(
    "torch.compile bf16", autocast="bf16", keep_memory=True, compiled=True
)
TF32 = Contender("PyTorch tf32", cuda_fp32="tf32")
AUTOCAST_FP16 = Contender("autocast fp16", autocast="fp16")

LEGEND = (
    "PyTorch baseline: torch.nn.LSTM in fp32. tuned: the C library keeps freed memory, and in fp32 "
    'torch.set_float32_matmul_precision("medium").'
)


def contenders_for(precision: str, device: torch.device, *, compiled: bool) -> list[Contender]:
    """Returns the contenders for a precision, starting with the baseline."""
    on_cpu = device.type == "cpu"
    match precision:
        case "fp32":
            more = [TUNED] * on_cpu + [COMPILED] * compiled
        case "bf16":
            more = [AUTOCAST] + [TUNED_AUTOCAST] * on_cpu + [COMPILED_AUTOCAST] * compiled
        case "tf32":
            more = [TF32]
        case _:
            more = [AUTOCAST_FP16]
    return [BASELINE, *more]


def contender_steps(contender: Contender, config: Config, device: torch.device) -> Steps:
    """Trains from torch's default initial weights. Call this function in a new process."""
    if contender.keep_memory:
        keep_freed_memory()
    corpus = read_corpus(config)
    model = baseline_model(config, len(corpus.vocabulary)).to(device)
    text = training_text(corpus, config, device)
    step = torch.compile(model) if contender.compiled else model
    with contender.flags(device):
        yield from train_steps(step, text, config.training, contender.autocast)


def steps_with_weights_of(contender: Contender, components: RunComponents) -> Steps:
    """Trains in this process from the initial weights of a ptblm run that has not started."""
    config, corpus = components.config, components.corpus
    device = model_device(components)
    model = baseline_model(config, len(corpus.vocabulary)).to(device)
    copy_weights(components, model)
    text = training_text(corpus, config, device)
    return _with_flags(
        contender, train_steps(model, text, config.training, contender.autocast), device
    )


def _with_flags(contender: Contender, steps: Steps, device: torch.device) -> Steps:
    """Sets the flags of a contender only during its steps, because ptblm needs other flags."""
    while True:
        with contender.flags(device):
            step = next(steps, None)
        if step is None:
            return
        yield step
