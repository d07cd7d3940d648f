"""Config keys of each optimizer."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from ptblm.config.section import LARGEST, Variant, expand_variant, variant_type

# Closer to 1, the bias correction of a moving average could overflow fp32.
_Decay = Annotated[float, Field(ge=0, le=0.999999)]
_Epsilon = Annotated[
    float,
    Field(ge=1e-30, le=LARGEST, description="constant added to the square root in the denominator"),
]


class SGDConfig(Variant):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = "sgd"


class MomentumConfig(Variant):
    """Stochastic gradient descent with momentum (as in torch.optim.SGD)."""

    type: Literal["momentum"] = "momentum"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="decay of the velocity in each step")
    ] = 0.9


class AdamConfig(Variant):
    """Adam (Kingma & Ba 2015); use a learning rate near 0.001."""

    type: Literal["adam"] = "adam"
    beta1: Annotated[_Decay, Field(description="decay of the mean gradient in each step")] = 0.9
    beta2: Annotated[
        _Decay, Field(description="decay of the mean squared gradient in each step")
    ] = 0.999
    epsilon: _Epsilon = 1e-8


class RMSPropConfig(Variant):
    """RMSProp (Tieleman & Hinton 2012); use a learning rate near 0.001."""

    type: Literal["rmsprop"] = "rmsprop"
    decay: Annotated[
        _Decay, Field(description="decay of the mean squared gradient in each step")
    ] = 0.9
    epsilon: _Epsilon = 1e-8


OptimizerConfig = Annotated[
    Annotated[SGDConfig, Tag("sgd")]
    | Annotated[MomentumConfig, Tag("momentum")]
    | Annotated[AdamConfig, Tag("adam")]
    | Annotated[RMSPropConfig, Tag("rmsprop")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "sgd")),
]
