"""Config keys of dropout."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError, PydanticKnownError

from ptblm.config.section import Section

# The keys that a number stands for, as in `dropout: 0.5`.
_PLACES = ("input", "between", "output")


_Rate = Annotated[float, Field(ge=0, lt=1)]


class DropoutConfig(Section):
    """Dropout probabilities; a number stands for input, between and output."""

    input: Annotated[_Rate, Field(description="dropout probability after the embedding")] = 0.0
    between: Annotated[
        _Rate, Field(description="dropout probability after every layer but the last")
    ] = 0.0
    output: Annotated[_Rate, Field(description="dropout probability after the last layer")] = 0.0
    locked: Annotated[
        bool,
        Field(
            description="whether the masks of input, between and output are the same at every time "
            "step of a batch"
        ),
    ] = False
    embedding: Annotated[
        _Rate,
        Field(
            description="probability of dropping a word: all its occurrences in the inputs of a "
            "batch"
        ),
    ] = 0.0
    recurrent_weights: Annotated[
        _Rate,
        Field(
            description="dropout probability of the weights that multiply the hidden state "
            "(DropConnect); one mask for all time steps of a batch"
        ),
    ] = 0.0
    recurrent_state: Annotated[
        _Rate,
        Field(
            description="dropout probability of the hidden state where the next time step uses it; "
            "one mask for all time steps of a batch"
        ),
    ] = 0.0

    @classmethod
    def everywhere(cls, rate: float) -> "DropoutConfig":
        """Returns the section that a number stands for."""
        return cls.model_validate(dict.fromkeys(_PLACES, rate))


def expand_dropout(value: Any) -> Any:
    """Returns the section that a number stands for; any other value unchanged."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return dict.fromkeys(_PLACES, value)
    return value


def _expand(value: Any) -> Any:
    """Expands a number, which is checked here so that there is one message for three keys."""
    if isinstance(value, dict | DropoutConfig):
        return value
    expanded = expand_dropout(value)
    if expanded is value:
        keys = ", ".join(DropoutConfig.model_fields)
        problem = f"expected a number or a section of keys ({keys})"
        raise PydanticCustomError("dropout", "{problem}", {"problem": problem})
    if not math.isfinite(value):
        raise PydanticKnownError("finite_number")
    if value < 0:
        raise PydanticKnownError("greater_than_equal", {"ge": 0.0})
    if value >= 1:
        raise PydanticKnownError("less_than", {"lt": 1.0})
    return expanded


Dropout = Annotated[DropoutConfig, BeforeValidator(_expand)]
