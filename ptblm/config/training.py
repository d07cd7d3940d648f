"""Config keys of the training recipe: batches, optimizer, learning rate, seed."""

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ptblm.config.optimizers import OptimizerConfig, SGDConfig
from ptblm.config.schedules import CosineSchedule, ScheduleConfig, TutorialSchedule
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
    epochs: Annotated[int, Field(ge=1, le=10**9, description="passes over the training text")] = 13
    early_stopping: Annotated[
        EarlyStoppingConfig,
        Field(description="ends training before all epochs are completed"),
    ] = EarlyStoppingConfig()
    optimizer: Annotated[
        OptimizerConfig,
        Field(description="optimizer: sgd, momentum, adam or rmsprop"),
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
        Field(description="learning-rate schedule: tutorial, plateau, cosine or constant"),
    ] = TutorialSchedule()
    max_grad_norm: Annotated[
        float, Field(gt=0, le=LARGEST, description="global norm that gradients are clipped to")
    ] = 5.0
    seed: Annotated[
        int,
        Field(ge=0, lt=2**63, description="random seed for initial weights and dropout masks"),
    ] = 0

    @field_validator("schedule")
    @classmethod
    def _check_final_learning_rate(
        cls, value: ScheduleConfig, info: ValidationInfo
    ) -> ScheduleConfig:
        if isinstance(value, CosineSchedule):
            final = value.final_learning_rate
            if final > info.data.get("learning_rate", final):
                raise PydanticCustomError(
                    "rising_cosine",
                    "must be at most learning_rate",
                    {"key": "final_learning_rate", "value": final},
                )
        return value
