"""The schema of a config: every key, its type, its bounds, its default and its meaning.

Each part of ptblm is given its own section and never sees the others. Defaults are the small
config's, so a file need only say what differs from it. The descriptions here are the comments
that `ptblm config show` prints.
"""

from typing import Annotated, Literal

from pydantic import Field

from ptblm.config.model import ModelConfig
from ptblm.config.section import Section
from ptblm.config.training import OptimizationConfig

CHECKPOINT_INTERVAL = r"^[1-9][0-9]{0,8} (steps?|minutes?)$"


class DataConfig(Section):
    """Where the text comes from."""

    path: Annotated[
        str,
        Field(
            min_length=1,
            pattern=r"^[^\x00]+$",
            description="'ptb' (what download-data fetched), 'sample' (the embedded corpus), "
            "a directory with {ptb.,}{train,valid,test}.txt, or a text file, which is cut by "
            "position: 90% train, 5% valid, 5% test",
        ),
    ] = "ptb"
    level: Annotated[
        Literal["word", "char", "byte"],
        Field(
            description="what a token is: word, char (a character; of ptb, its character files), "
            "or byte (of any file)"
        ),
    ] = "word"


class TrainingConfig(OptimizationConfig):
    """The optimization, and how the run is carried out."""

    seed: Annotated[
        int, Field(ge=0, lt=2**63, description="decides the initial weights and dropout masks")
    ] = 0
    device: Annotated[
        str,
        Field(
            pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
            description="auto (CUDA when there is one, else CPU), cpu, cuda, cuda:N or mps",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["fp32", "tf32", "bf16", "fp16"],
        Field(
            description="of the matrix products: fp32, tf32, bf16 or fp16; on a CPU bf16 "
            "leaves LSTMs of less than 400 units in fp32, which is faster there"
        ),
    ] = "fp32"
    checkpoint_every: Annotated[
        str,
        Field(
            pattern=CHECKPOINT_INTERVAL,
            description="'5 minutes' or '200 steps'; the end of an epoch always saves",
        ),
    ] = "5 minutes"
    keep_checkpoints: Annotated[
        int,
        Field(
            ge=0, le=10**6, description="how many numbered checkpoints stay besides last and best"
        ),
    ] = 0
    deterministic: Annotated[
        bool,
        Field(description="on CUDA, use only deterministic kernels; the CPU's always are"),
    ] = False
    plain: Annotated[
        bool,
        Field(
            description="whether to make steps as the equations read, one after the other and with "
            "gradients by autograd; slower, with the same dropout masks"
        ),
    ] = False
    log_every: Annotated[
        int, Field(ge=1, le=10**9, description="steps between two records in metrics.jsonl")
    ] = 100
    tensorboard: Annotated[
        bool, Field(description="whether to write curves for TensorBoard, into tensorboard/")
    ] = False


class Config(Section):
    """A whole run, as written to config.yaml and into every checkpoint."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
