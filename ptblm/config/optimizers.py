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

# Learning rates that rarely diverge, by optimizer. Those that normalize the gradient need less.
USUAL_RATES = {
    "sgd": 1.0,
    "momentum": 0.1,
    "adam": 0.001,
    "adamw": 0.001,
    "nadam": 0.001,
    "muon": 0.02,
    "rmsprop": 0.001,
}


class SGDConfig(Variant):
    """Stochastic gradient descent."""

    type: Literal["sgd"] = "sgd"


class MomentumConfig(Variant):
    """Stochastic gradient descent with momentum (as in torch.optim.SGD)."""

    type: Literal["momentum"] = "momentum"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="decay of the velocity in each step")
    ] = 0.9


class _AdamOptions(Variant):
    """The options that Adam and the optimizers derived from it have in common."""

    beta1: Annotated[_Decay, Field(description="decay of the mean gradient in each step")] = 0.9
    beta2: Annotated[
        _Decay, Field(description="decay of the mean squared gradient in each step")
    ] = 0.999
    epsilon: _Epsilon = 1e-8


class AdamConfig(_AdamOptions):
    """Adam (Kingma & Ba 2015); use a learning rate near 0.001."""

    type: Literal["adam"] = "adam"


class AdamWConfig(_AdamOptions):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019); use a rate near 0.001."""

    type: Literal["adamw"] = "adamw"


class NAdamConfig(_AdamOptions):
    """Adam with Nesterov momentum (Dozat 2016); use a learning rate near 0.001."""

    type: Literal["nadam"] = "nadam"
    momentum_decay: Annotated[
        float, Field(ge=0, le=1, description="how slowly beta1 rises to its full value")
    ] = 0.004
    decoupled_weight_decay: Annotated[
        bool, Field(description="whether weight decay is that of AdamW instead of part of the loss")
    ] = False


class MuonConfig(_AdamOptions):
    """Orthogonalized momentum for recurrent matrices, AdamW for others (Jordan et al. 2024)."""

    type: Literal["muon"] = "muon"
    momentum: Annotated[
        float, Field(ge=0, lt=1, description="decay of the velocity of recurrent matrices")
    ] = 0.95
    adam_factor: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="learning rate of AdamW, as a multiple of that of recurrent matrices",
        ),
    ] = 0.1


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
    | Annotated[AdamWConfig, Tag("adamw")]
    | Annotated[NAdamConfig, Tag("nadam")]
    | Annotated[MuonConfig, Tag("muon")]
    | Annotated[RMSPropConfig, Tag("rmsprop")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "sgd")),
]


def momentum_of(optimizer: Variant) -> float | None:
    """Returns the momentum of an optimizer, which Adam calls beta1; None if it has neither."""
    momentum: float | None = optimizer.options.get("momentum", optimizer.options.get("beta1"))
    return momentum


def decouples_weight_decay(optimizer: Variant) -> bool:
    """Returns whether an optimizer applies weight decay directly, not as part of the gradient."""
    is_decoupled: bool = optimizer.options.get("decoupled_weight_decay", False)
    return is_decoupled or optimizer.type in ("adamw", "muon")
