"""Config keys of each learning-rate schedule."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ptblm.config.section import LARGEST, Variant, expand_variant, variant_type


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


class ConstantSchedule(Variant):
    """The same learning rate in every epoch."""

    type: Literal["constant"] = "constant"


ScheduleConfig = Annotated[
    Annotated[TutorialSchedule, Tag("tutorial")]
    | Annotated[PlateauSchedule, Tag("plateau")]
    | Annotated[CosineSchedule, Tag("cosine")]
    | Annotated[ConstantSchedule, Tag("constant")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "tutorial")),
]
