"""Config keys for the execution of a run: device, precision, checkpoints, logging."""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ptblm.config.section import Section

CHECKPOINT_INTERVAL = r"^[1-9][0-9]{0,8} (steps?|minutes?)$"

_UNITS = {"": 1, "k": 1000, "M": 10**6}


def _parse_count(value: Any) -> Any:
    """Returns a number such as "500k" or "1M" as an int; any other value is returned unchanged."""
    match = re.fullmatch(r"([0-9]{1,12})([kM]?)", value) if isinstance(value, str) else None
    return value if match is None else int(match[1]) * _UNITS[match[2]]


class RunConfig(Section):
    """How the run is carried out; a resumed run can change all of it."""

    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
            description="auto (CUDA if available, otherwise CPU), cpu, cuda, cuda:N or mps",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"],
        Field(
            description="precision of matrix multiplications: fp32, tf32, bf16 or fp16; on a CPU, "
            "bf16 keeps LSTMs of fewer than 320 units in fp32, which is faster there"
        ),
    ] = "fp32"
    deterministic: Annotated[
        bool,
        Field(description="whether to use only deterministic kernels on CUDA; slower"),
    ] = False
    fused: Annotated[
        bool,
        Field(
            description="whether to use fused kernels; without them every operation is a separate "
            "PyTorch operation, which is slower"
        ),
    ] = True
    checkpoint_every: Annotated[
        str,
        Field(
            pattern=CHECKPOINT_INTERVAL,
            description="interval between checkpoints, as in '5 minutes' or '200 steps'; the end "
            "of every epoch also saves one",
        ),
    ] = "5 minutes"
    keep_checkpoints: Annotated[
        int,
        Field(
            ge=0, le=10**6, description="numbered checkpoints to keep in addition to last and best"
        ),
    ] = 0
    keep_at: Annotated[
        list[Annotated[int, BeforeValidator(_parse_count), Field(ge=1, le=10**15)]] | None,
        Field(
            description="numbers of training tokens after which a checkpoint is kept, as in [500k, "
            "1M]; the tokens of every epoch count; null for none"
        ),
    ] = None
    timeout: Annotated[
        int,
        Field(
            ge=1,
            le=10**6,
            description="seconds that a process waits for the others before it ends, if several "
            "processes train together; longer than saving all checkpoints of an epoch takes",
        ),
    ] = 60
    log_every: Annotated[
        int, Field(ge=1, le=10**9, description="steps between two records in metrics.jsonl")
    ] = 100
    test: Annotated[
        bool, Field(description="whether to evaluate the test split at the end of training")
    ] = True
    tensorboard: Annotated[
        bool,
        Field(description="whether to write TensorBoard curves and results to tensorboard/"),
    ] = False
    histograms: Annotated[
        bool,
        Field(
            description="whether to write TensorBoard histograms of weights and of the last "
            "gradients after each epoch"
        ),
    ] = False
