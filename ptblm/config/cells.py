"""Config keys of each recurrent cell, and of custom cells."""

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ptblm.config.section import LARGEST, Variant, expand_variant, variant_type

CUSTOM_CELL = r"^[^\W\d]\w*:[^\W\d]\w*$"
_CUSTOM = "my_module:MyCell"

_ForgetBias = Annotated[
    float,
    Field(
        ge=-LARGEST,
        le=LARGEST,
        description="constant added to the pre-activation of the forget gate; not trained",
    ),
]
_ChronoSteps = Annotated[
    int | None,
    Field(
        ge=3,
        le=10**9,
        description="longest memory, in time steps, that the forget biases are initialized for "
        "(chrono initialization); null initializes them to zero",
    ),
]
_CapInputGate = Annotated[
    bool,
    Field(description="whether the input gate is at most 1 - f, so that |c| stays at most 1"),
]
_Rounds = Annotated[
    int, Field(ge=0, le=100, description="rounds in which input and state gate each other")
]
_Rank = Annotated[
    int | None,
    Field(
        ge=1,
        le=1_000_000,
        description="rank of the matrices of the rounds, which are then products of two factors; "
        "null for full rank",
    ),
]
_Activation = Annotated[
    Literal["tanh", "relu", "linear"],
    Field(description="activation of candidate and output: tanh, relu or linear"),
]
_GateActivation = Annotated[
    Literal["sigmoid", "hard_sigmoid"],
    Field(description="activation of the gates: sigmoid or hard_sigmoid"),
]


class LSTMConfig(Variant):
    """Long short-term memory (Hochreiter & Schmidhuber 1997)."""

    type: Literal["lstm"] = "lstm"
    forget_bias: _ForgetBias = 0.0
    peepholes: Annotated[
        bool, Field(description="whether the gates also see the memory cell c")
    ] = False
    projection_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="size of a linear projection of the output; null for no projection",
        ),
    ] = None
    gate_activation: _GateActivation = "sigmoid"
    activation: _Activation = "tanh"
    cap_input_gate: _CapInputGate = False
    chrono_steps: _ChronoSteps = None


class RNNConfig(Variant):
    """Simple recurrent network (Elman 1990)."""

    type: Literal["rnn"] = "rnn"
    activation: _Activation = "tanh"


class GRUConfig(Variant):
    """Gated recurrent unit (Cho et al. 2014)."""

    type: Literal["gru"] = "gru"
    reset_gate: Annotated[
        Literal["before", "after"],
        Field(
            description="whether the reset gate is applied before or after the recurrent matrix "
            "multiplication"
        ),
    ] = "after"
    gate_activation: _GateActivation = "sigmoid"
    activation: _Activation = "tanh"


class SLSTMConfig(Variant):
    """Simplified LSTM: the input gate is 1 - f, and there is no output gate (Wu & King 2016)."""

    type: Literal["slstm"] = "slstm"
    forget_bias: _ForgetBias = 0.0


class JANETConfig(Variant):
    """LSTM with only a forget gate (van der Westhuizen & Lasenby 2018)."""

    type: Literal["janet"] = "janet"
    beta: Annotated[
        float,
        Field(
            ge=-LARGEST,
            le=LARGEST,
            description="constant subtracted from the pre-activation of the input gate",
        ),
    ] = 1.0
    chrono_steps: _ChronoSteps = None


class MogrifierConfig(Variant):
    """LSTM whose input and state gate each other (Melis et al. 2020)."""

    type: Literal["mogrifier"] = "mogrifier"
    rounds: _Rounds = 5
    rank: _Rank = None
    forget_bias: _ForgetBias = 0.0
    cap_input_gate: _CapInputGate = False
    chrono_steps: _ChronoSteps = None


class RLSTMConfig(Variant):
    """LSTM with rearranged gates, with or without mogrification (Melis 2022)."""

    type: Literal["rlstm"] = "rlstm"
    rounds: _Rounds = 0
    rank: _Rank = None
    forget_bias: _ForgetBias = 0.0
    chrono_steps: _ChronoSteps = None


class SRUConfig(Variant):
    """Simple recurrent unit: fast, since its gates do not depend on the state (Lei et al. 2018)."""

    type: Literal["sru"] = "sru"
    highway_bias: Annotated[
        float,
        Field(
            ge=-LARGEST,
            le=LARGEST,
            description="initial bias of the gate between output (1) and copied input (0)",
        ),
    ] = -3.0


class CustomCellConfig(Variant):
    """A custom cell; its options are passed to the class as keyword arguments."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(max_length=200, pattern=CUSTOM_CELL)]

    @model_validator(mode="after")
    def _check_options(self) -> "CustomCellConfig":
        for name, value in self.options.items():
            if not name.isidentifier() or len(name) > 100:
                problem = "the name of an option must be a Python identifier"
            elif not isinstance(value, bool | int | float | str):
                problem = "expected a number, text, true or false"
            elif isinstance(value, float) and not math.isfinite(value):
                problem = "expected a finite number"
            else:
                continue
            raise PydanticCustomError(
                "custom_option", "{problem}", {"problem": problem, "key": name, "value": value}
            )
        return self


def _tag(value: Any) -> str:
    name = variant_type(value)
    return _CUSTOM if re.match(CUSTOM_CELL, name) else name


CellConfig = Annotated[
    Annotated[LSTMConfig, Tag("lstm")]
    | Annotated[RNNConfig, Tag("rnn")]
    | Annotated[GRUConfig, Tag("gru")]
    | Annotated[SLSTMConfig, Tag("slstm")]
    | Annotated[JANETConfig, Tag("janet")]
    | Annotated[MogrifierConfig, Tag("mogrifier")]
    | Annotated[RLSTMConfig, Tag("rlstm")]
    | Annotated[SRUConfig, Tag("sru")]
    | Annotated[CustomCellConfig, Tag(_CUSTOM)],
    Discriminator(_tag),
    BeforeValidator(lambda value: expand_variant(value, "lstm")),
]
