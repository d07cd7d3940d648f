"""Config keys of the model."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ptblm.config.cells import CellConfig, LSTMConfig
from ptblm.config.section import LARGEST, Section

_Units = Annotated[int, Field(ge=1, le=1_000_000)]


class ModelConfig(Section):
    """The model: embedding, dropout, recurrent layers, dropout, softmax."""

    cell: Annotated[
        CellConfig,
        Field(
            description="recurrent cell: lstm, rnn, gru, slstm, janet, mogrifier, rlstm, sru, "
            "or a custom cell as my_module:MyCell"
        ),
    ] = LSTMConfig()
    hidden_size: Annotated[
        int, Field(ge=1, le=1_000_000, description="units in each recurrent layer")
    ] = 200
    embedding_size: Annotated[
        int | None,
        Field(
            ge=1, le=1_000_000, description="size of the embedding vectors; null for hidden_size"
        ),
    ] = None
    num_layers: Annotated[int, Field(ge=1, le=1000, description="recurrent layers")] = 2
    layer_sizes: Annotated[
        list[_Units] | None,
        Field(
            min_length=1,
            max_length=1000,
            description="units in each recurrent layer if they differ, such as [1150, 1150, 400]; "
            "num_layers is then their number and hidden_size the largest, and both can be omitted; "
            "null for hidden_size in each",
        ),
    ] = None
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="dropout probability, after the embedding and after every layer; never "
            "on the recurrent state",
        ),
    ] = 0.0
    initializer: Annotated[
        Literal["uniform", "glorot_uniform", "orthogonal"],
        Field(
            description="initializer of the recurrent layers: uniform, glorot_uniform or orthogonal"
        ),
    ] = "uniform"
    initial_state: Annotated[
        Literal["zeros", "ones", "learned"],
        Field(description="hidden state before the first token of a text: zeros, ones or learned"),
    ] = "zeros"
    init_scale: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="weights are initialized uniformly in [-init_scale, init_scale]; those of "
            "the recurrent layers only if initializer is uniform",
        ),
    ] = 0.1

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, keys: Any) -> Any:
        sizes = keys.get("layer_sizes") if isinstance(keys, dict) else None
        if isinstance(sizes, list) and sizes and all(type(size) is int for size in sizes):
            return {"num_layers": len(sizes), "hidden_size": max(sizes), **keys}
        return keys

    @model_validator(mode="after")
    def _check_layer_sizes(self) -> Self:
        if self.layer_sizes is not None:
            implied = {"num_layers": len(self.layer_sizes), "hidden_size": max(self.layer_sizes)}
            for key, value in implied.items():
                if getattr(self, key) != value:
                    raise PydanticCustomError(
                        "layer_sizes",
                        "must be {expected} with model.layer_sizes {sizes}",
                        {
                            "key": key,
                            "value": getattr(self, key),
                            "expected": value,
                            "sizes": str(self.layer_sizes[:20]),
                        },
                    )
        return self

    @property
    def units(self) -> list[int]:
        """The units of each recurrent layer, from the lowest to the highest."""
        return self.layer_sizes or [self.hidden_size] * self.num_layers
