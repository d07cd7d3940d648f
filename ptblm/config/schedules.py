"""Config keys of each learning-rate schedule."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ptblm.config.section import LARGEST, Variant, expand_variant, variant_type

# Schedules whose rates depend on the completed fraction of training.
PROGRESS_SCHEDULES = {"cosine", "linear", "one_cycle"}


class TutorialSchedule(Variant):
    """Constant for some epochs, then decayed in every epoch (Zaremba et al. 2014)."""

    type: Literal["tutorial"] = "tutorial"
    full_rate_epochs: Annotated[
        int, Field(ge=0, le=10**9, description="epochs before the learning rate starts to decay")
    ] = 4
    decay: Annotated[
        float,
        Field(gt=0, le=1, description="decay factor of the learning rate in each later epoch"),
    ] = 0.5


class PlateauSchedule(Variant):
    """Decayed when valid perplexity stops improving (Mikolov et al. 2010)."""

    type: Literal["plateau"] = "plateau"
    patience: Annotated[
        int,
        Field(
            ge=0,
            le=10**9,
            description="epochs without improvement before the learning rate is decayed",
        ),
    ] = 0
    decay: Annotated[float, Field(gt=0, le=1, description="decay factor of the learning rate")] = (
        0.5
    )


class CosineSchedule(Variant):
    """Half a cosine over all epochs (Loshchilov & Hutter 2017, without restarts)."""

    type: Literal["cosine"] = "cosine"
    final_learning_rate: Annotated[
        float, Field(ge=0, le=LARGEST, description="learning rate at the end of training")
    ] = 0.0


class LinearSchedule(Variant):
    """Constant at first, then linear to the end of training."""

    type: Literal["linear"] = "linear"
    flat: Annotated[
        float, Field(ge=0, lt=1, description="share of all steps at the full learning rate")
    ] = 0.5
    final_learning_rate: Annotated[
        float, Field(ge=0, le=LARGEST, description="learning rate at the end of training")
    ] = 0.0


class OneCycleSchedule(Variant):
    """Linear warm-up, full rate, linear decay to a tenth, cosine to zero (Smith 2018)."""

    type: Literal["one_cycle"] = "one_cycle"
    warmup_share: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of all steps in which the rate rises from a tenth to full",
        ),
    ] = 0.1
    flat: Annotated[
        float, Field(ge=0, le=1, description="share of all steps at the full learning rate")
    ] = 0.4
    cooldown: Annotated[
        float,
        Field(
            ge=0, le=1, description="share of all steps in which the learning rate falls to zero"
        ),
    ] = 0.1
    low_momentum: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="momentum or beta1 at the full learning rate; null for that of the "
            "optimizer in all steps",
        ),
    ] = None


class ConstantSchedule(Variant):
    """The same learning rate in every epoch."""

    type: Literal["constant"] = "constant"


ScheduleConfig = Annotated[
    Annotated[TutorialSchedule, Tag("tutorial")]
    | Annotated[PlateauSchedule, Tag("plateau")]
    | Annotated[CosineSchedule, Tag("cosine")]
    | Annotated[LinearSchedule, Tag("linear")]
    | Annotated[OneCycleSchedule, Tag("one_cycle")]
    | Annotated[ConstantSchedule, Tag("constant")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "tutorial")),
]
