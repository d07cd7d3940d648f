"""The keys that say how a model is trained: text per step, optimizer, learning rate."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from ptblm.config.section import LARGEST, Section

# How much of an average may stay: at more, its correction could overflow in fp32.
_Share = Annotated[float, Field(ge=0, le=0.999999)]


class OptimizationConfig(Section):
    """The optimization.

    `full_rate_epochs` and `learning_rate_decay`, which every shipped config sets, may stand idle
    under another schedule; all other options may not.
    """

    options: ClassVar = {
        "optimizer": {
            "momentum": ("momentum",),
            "adam_beta1": ("adam",),
            "adam_beta2": ("adam",),
            "rmsprop_decay": ("rmsprop",),
            "epsilon": ("adam", "rmsprop"),
        },
        "schedule": {
            "patience": ("plateau",),
            "final_learning_rate": ("cosine",),
        },
    }

    batch_size: Annotated[
        int, Field(ge=1, le=10**9, description="contiguous streams of text trained side by side")
    ] = 20
    num_steps: Annotated[
        int, Field(ge=1, le=10**9, description="steps of truncated back-propagation")
    ] = 20
    epochs: Annotated[int, Field(ge=1, le=10**9, description="passes over the training text")] = 13
    optimizer: Annotated[
        Literal["sgd", "momentum", "adam", "rmsprop"],
        Field(description="sgd, momentum, adam or rmsprop; the last two want a rate near 0.001"),
    ] = "sgd"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="share of the velocity that stays (momentum)")
    ] = 0.9
    adam_beta1: Annotated[
        _Share, Field(description="share of the mean gradient that stays (adam)")
    ] = 0.9
    adam_beta2: Annotated[
        _Share, Field(description="share of the mean squared gradient that stays (adam)")
    ] = 0.999
    rmsprop_decay: Annotated[
        _Share, Field(description="share of the mean squared gradient that stays (rmsprop)")
    ] = 0.9
    epsilon: Annotated[
        float,
        Field(ge=1e-30, le=LARGEST, description="added to the square root (adam, rmsprop)"),
    ] = 1e-8
    learning_rate: Annotated[
        float,
        Field(
            gt=0,
            le=LARGEST,
            description="rate of the first epochs, for the summed cost / batch_size",
        ),
    ] = 1.0
    warmup_steps: Annotated[
        int,
        Field(ge=0, le=10**9, description="steps at first over which the rate rises to its full"),
    ] = 0
    schedule: Annotated[
        Literal["tutorial", "plateau", "cosine", "constant"],
        Field(
            description="of the rate: tutorial (decays every epoch), plateau (decays when valid "
            "perplexity stops falling), cosine (down to final_learning_rate) or constant"
        ),
    ] = "tutorial"
    full_rate_epochs: Annotated[
        int,
        Field(
            ge=0, le=10**9, description="epochs before the learning rate starts to fall (tutorial)"
        ),
    ] = 4
    learning_rate_decay: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="factor on the rate in every epoch after those (tutorial), or when valid "
            "perplexity stops falling (plateau)",
        ),
    ] = 0.5
    patience: Annotated[
        int,
        Field(
            ge=0,
            le=10**9,
            description="epochs in a row without a better valid perplexity that are borne before "
            "the rate decays (plateau)",
        ),
    ] = 0
    final_learning_rate: Annotated[
        float, Field(ge=0, le=LARGEST, description="rate that the run ends with (cosine)")
    ] = 0.0
    max_grad_norm: Annotated[
        float, Field(gt=0, le=LARGEST, description="the gradient's global norm is clipped to this")
    ] = 5.0

    @field_validator("final_learning_rate")
    @classmethod
    def _falls(cls, value: float, info: ValidationInfo) -> float:
        if value > info.data.get("learning_rate", value):
            raise PydanticCustomError("no_fall", "must be at most learning_rate")
        return value
