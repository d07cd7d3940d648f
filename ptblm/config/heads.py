"""Config keys of each head, which computes probabilities from the output of the layers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from ptblm.config.section import Variant, expand_variant, variant_type

_Cutoff = Annotated[int, Field(ge=1, le=100_000_000)]


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


def _check_increasing(cutoffs: Sequence[int]) -> Sequence[int]:
    if any(first >= second for first, second in pairwise(cutoffs)):
        raise PydanticCustomError("cutoffs", "expected increasing ids")
    return cutoffs


class AdaptiveConfig(Variant):
    """Adaptive softmax (Grave et al. 2017): rare words are in clusters with fewer weights."""

    type: Literal["adaptive"] = "adaptive"
    cutoffs: Annotated[
        Annotated[
            list[_Cutoff], Field(min_length=1, max_length=20), AfterValidator(_check_increasing)
        ]
        | None,
        Field(
            description="first id of each cluster, from frequent to rare tokens; those before the "
            "first cluster are the shortlist; null for V^0.8 and V^0.9 with V tokens",
        ),
    ] = None
    div_value: Annotated[
        float,
        Field(
            ge=1,
            le=1000,
            description="factor by which the input of each cluster is smaller than that of the one "
            "before it",
        ),
    ] = 4.0

    def cutoffs_for(self, vocab_size: int) -> list[int]:
        """Returns the cutoffs for a vocabulary; none if it has only one or two tokens.

        Checkpoints depend on the default, because it determines the shapes of their weights.
        """
        if self.cutoffs is not None:
            return self.cutoffs
        default = {round(vocab_size**0.8), round(vocab_size**0.9)}
        return sorted(cutoff for cutoff in default if cutoff < vocab_size)


HeadConfig = Annotated[
    Annotated[SoftmaxConfig, Tag("softmax")]
    | Annotated[MixtureConfig, Tag("mixture")]
    | Annotated[AdaptiveConfig, Tag("adaptive")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "softmax")),
]
