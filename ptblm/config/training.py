"""Config keys of the training recipe: batches, optimizer, learning rate, seed."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ptblm.config.averaging import AverageConfig, NoAverage, NTAverageConfig, TailAverageConfig
from ptblm.config.optimizers import OptimizerConfig, SGDConfig, momentum_of
from ptblm.config.schedules import (
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    ScheduleConfig,
    TutorialSchedule,
)
from ptblm.config.section import LARGEST, Section


class EarlyStoppingConfig(Section):
    """When training ends before all epochs are completed."""

    patience: Annotated[
        int | None,
        Field(
            ge=1,
            le=10**9,
            description="epochs without a better valid perplexity after which training ends; null "
            "for never",
        ),
    ] = None


class TrainingConfig(Section):
    """The training recipe; a resumed run can change only its length."""

    batch_size: Annotated[
        int, Field(ge=1, le=10**9, description="contiguous streams of text in a batch")
    ] = 20
    num_steps: Annotated[
        int, Field(ge=1, le=10**9, description="time steps of truncated backpropagation")
    ] = 20
    random_num_steps: Annotated[
        bool,
        Field(
            description="whether the number of time steps of a batch is random: normal around "
            "num_steps or, with probability 0.05, half of it; at least 5"
        ),
    ] = False
    streams: Annotated[
        Literal["fixed", "rotated"],
        Field(description="fixed, or rotated: in each epoch, each stream begins at a random token"),
    ] = "fixed"
    drop_state: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="probability of resetting the hidden state of a stream before a batch",
        ),
    ] = 0.0
    epochs: Annotated[int, Field(ge=1, le=10**9, description="passes over the training text")] = 13
    early_stopping: Annotated[
        EarlyStoppingConfig,
        Field(description="ends training before all epochs are completed"),
    ] = EarlyStoppingConfig()
    optimizer: Annotated[
        OptimizerConfig,
        Field(description="optimizer: sgd, momentum, adam, adamw, nadam, muon or rmsprop"),
    ] = SGDConfig()
    learning_rate: Annotated[
        float,
        Field(
            gt=0,
            le=LARGEST,
            description="initial learning rate, for the loss summed over num_steps and averaged "
            "over the batch",
        ),
    ] = 1.0
    warmup_steps: Annotated[
        int, Field(ge=0, le=10**9, description="linear learning-rate warm-up, in steps")
    ] = 0
    schedule: Annotated[
        ScheduleConfig,
        Field(
            description="learning-rate schedule: tutorial, plateau, cosine, linear, one_cycle or "
            "constant"
        ),
    ] = TutorialSchedule()
    max_grad_norm: Annotated[
        float, Field(gt=0, le=LARGEST, description="global norm that gradients are clipped to")
    ] = 5.0
    weight_decay: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="factor of the weights that is added to the clipped gradient of the loss "
            "summed over num_steps; or, if the optimizer decouples weight decay, share of the "
            "weights, times the learning rate, that is subtracted in each step",
        ),
    ] = 0.0
    activation_regularization: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="factor of the mean square of the output of the layers, after dropout, in "
            "the loss (AR)",
        ),
    ] = 0.0
    temporal_activation_regularization: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="factor of the mean square of the change of that output, before dropout, "
            "from one time step to the next, in the loss (TAR)",
        ),
    ] = 0.0
    average: Annotated[
        AverageConfig,
        Field(
            description="average of the weights, for evaluation: none, ema, tail, nt or two_tailed"
        ),
    ] = NoAverage()
    seed: Annotated[
        int,
        Field(ge=0, lt=2**63, description="random seed for initial weights and dropout masks"),
    ] = 0

    @field_validator("schedule")
    @classmethod
    def _check_schedule(cls, value: ScheduleConfig, info: ValidationInfo) -> ScheduleConfig:
        if isinstance(value, CosineSchedule | LinearSchedule):
            final = value.final_learning_rate
            if final > info.data.get("learning_rate", final):
                raise _option_error("must be at most learning_rate", "final_learning_rate", final)
        if isinstance(value, OneCycleSchedule):
            if value.warmup_share + value.flat + value.cooldown > 1 + 1e-9:
                shares = "the sum of warmup_share, flat and cooldown must be at most 1"
                raise _option_error(shares, "cooldown", value.cooldown)
            optimizer, low = info.data.get("optimizer"), value.low_momentum
            if optimizer is not None and low is not None:
                momentum = momentum_of(optimizer)
                if momentum is None:
                    problem = f"the optimizer {optimizer.type} has no momentum"
                    raise _option_error(problem, "low_momentum", low)
                if low > momentum:
                    problem = f"must be at most the momentum of the optimizer, {momentum:g}"
                    raise _option_error(problem, "low_momentum", low)
        return value

    @field_validator("average")
    @classmethod
    def _check_average(cls, value: AverageConfig, info: ValidationInfo) -> AverageConfig:
        if not isinstance(value, TailAverageConfig | NTAverageConfig):
            return value
        early = info.data.get("early_stopping", EarlyStoppingConfig()).patience
        problem = None
        match value:
            case TailAverageConfig(start=None, patience=None):
                problem = "without start, patience is required"
            case TailAverageConfig(start=None, patience=patience) if early and early <= patience:
                problem = (
                    f"must be less than early_stopping.patience, {early}, or training ends before "
                    "the average starts; or set start"
                )
            case NTAverageConfig() if early == 1:  # it starts after an epoch that is not the best
                problem = "the average needs early_stopping.patience to be at least 2 or null"
        if problem is not None:
            raise _option_error(problem, "patience", value.patience)
        return value


def _option_error(problem: str, option: str, value: object) -> PydanticCustomError:
    """Returns the error of an option of a variant, for `ptblm.config.loading`."""
    return PydanticCustomError("option", problem, {"key": option, "value": value})
