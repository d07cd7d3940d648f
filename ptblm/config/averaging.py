"""Config keys of each average of the weights."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ptblm.config.section import Variant, expand_variant, variant_type

_Patience = Annotated[int, Field(ge=1, le=10**9)]


class NoAverage(Variant):
    """The weights of the last step are used."""

    type: Literal["none"] = "none"


class EMAConfig(Variant):
    """Exponential moving average, with the bias correction of Adam."""

    type: Literal["ema"] = "ema"
    decay: Annotated[
        float, Field(ge=0, le=0.999999, description="decay of earlier weights in each step")
    ] = 0.999


class TailAverageConfig(Variant):
    """Mean of the weights after all later steps (Melis et al. 2020)."""

    type: Literal["tail"] = "tail"
    start: Annotated[
        float | None,
        Field(ge=0, le=10**9, description="completed epochs after which the mean starts"),
    ] = None
    patience: Annotated[
        _Patience | None,
        Field(
            description="epochs without a better valid perplexity after which the mean starts, "
            "unless it started before; null for never",
        ),
    ] = 5


class NTAverageConfig(Variant):
    """Mean after a non-monotonic validation, as in NT-ASGD (Merity et al. 2018)."""

    type: Literal["nt"] = "nt"
    patience: Annotated[
        _Patience,
        Field(
            description="most recent epochs that are ignored: the mean starts after an epoch whose "
            "valid perplexity is higher than the best before them",
        ),
    ] = 5


class TwoTailedConfig(Variant):
    """Mean of a number of last steps that adapts to valid perplexity (Melis 2022)."""

    type: Literal["two_tailed"] = "two_tailed"


AverageConfig = Annotated[
    Annotated[NoAverage, Tag("none")]
    | Annotated[EMAConfig, Tag("ema")]
    | Annotated[TailAverageConfig, Tag("tail")]
    | Annotated[NTAverageConfig, Tag("nt")]
    | Annotated[TwoTailedConfig, Tag("two_tailed")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "none")),
]
