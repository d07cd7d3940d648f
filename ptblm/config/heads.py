"""Config keys of each head, which computes probabilities from the output of the layers."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ptblm.config.section import Variant, expand_variant, variant_type


class SoftmaxConfig(Variant):
    """Softmax of a linear map."""

    type: Literal["softmax"] = "softmax"


class MixtureConfig(Variant):
    """Mixture of softmaxes (Yang et al. 2018)."""

    type: Literal["mixture"] = "mixture"
    components: Annotated[
        int, Field(ge=1, le=1000, description="number of softmaxes in the mixture")
    ] = 15
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="dropout probability of the input of the softmaxes; one mask for all time "
            "steps of a batch",
        ),
    ] = 0.0


HeadConfig = Annotated[
    Annotated[SoftmaxConfig, Tag("softmax")] | Annotated[MixtureConfig, Tag("mixture")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "softmax")),
]
