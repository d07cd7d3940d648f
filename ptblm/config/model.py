"""Config keys of the model."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ptblm.config.cells import CellConfig, CustomCellConfig, LSTMConfig
from ptblm.config.dropout import Dropout, DropoutConfig
from ptblm.config.heads import AdaptiveConfig, HeadConfig, SoftmaxConfig
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
    tie_embeddings: Annotated[
        bool, Field(description="whether the embedding is also the weight of the softmax")
    ] = False
    output_projection: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="size of a linear map without bias between the last layer and the softmax; "
            "null for no map",
        ),
    ] = None
    head: Annotated[
        HeadConfig,
        Field(
            description="what computes the probabilities: softmax, mixture (of softmaxes) or "
            "adaptive (softmax, for large vocabularies)"
        ),
    ] = SoftmaxConfig()
    sum_layers: Annotated[
        bool,
        Field(description="whether the softmax sees the sum of the outputs of all layers"),
    ] = False
    dropout: Annotated[
        Dropout,
        Field(description="dropout probabilities; a number stands for input, between and output"),
    ] = DropoutConfig()
    initializer: Annotated[
        Literal["uniform", "glorot_uniform", "orthogonal", "pytorch", "lecun_normal"],
        Field(
            description="initializer of the recurrent layers: uniform, glorot_uniform, orthogonal, "
            "pytorch (uniform, bounded by the inverse root of the units) or lecun_normal"
        ),
    ] = "uniform"
    softmax_bias: Annotated[
        Literal["uniform", "zeros", "log_unigram"],
        Field(
            description="initial bias of the softmax: uniform (as the weights), zeros, or "
            "log_unigram (the log of the relative frequencies in the training split)"
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

    @model_validator(mode="after")
    def _check_output_sizes(self) -> Self:
        if isinstance(self.cell, CustomCellConfig):  # only the cell knows its output size
            return self
        projection = getattr(self.cell, "projection_size", None)
        problem = self.size_problem([projection or size for size in self.units])
        if problem is not None:
            key, message = problem
            details = {"key": key, "message": message}
            raise PydanticCustomError("combination", "{message}", details)
        return self

    @model_validator(mode="after")
    def _check_head(self) -> Self:
        if isinstance(self.head, AdaptiveConfig):
            for key, value, reason in (
                ("tie_embeddings", True, "vectors of different sizes from the embedding"),
                ("softmax_bias", "log_unigram", "no bias"),
            ):
                if getattr(self, key) == value:
                    message = "cannot be used with head adaptive, whose clusters have {reason}"
                    details = {"key": key, "value": value, "reason": reason}
                    raise PydanticCustomError("head", message, details)
        return self

    def size_problem(self, output_sizes: Sequence[int]) -> tuple[str, str] | None:
        """Returns a key that cannot be combined with the sizes of the layers, and a message.

        Args:
            output_sizes: output size of each layer, from the lowest to the highest.
        """
        if self.sum_layers and len(set(output_sizes)) > 1:
            return "sum_layers", f"needs layers of one size, not {list(output_sizes)[:20]}"
        table = self.embedding_size or self.hidden_size
        output = self.output_projection or output_sizes[-1]
        if self.tie_embeddings and isinstance(self.head, SoftmaxConfig) and output != table:
            return "tie_embeddings", (
                f"needs an embedding as large as the input of the softmax, {output}, but its size "
                f"is {table}; set model.embedding_size to {output} or model.output_projection to "
                f"{table}"
            )
        return None

    @property
    def units(self) -> list[int]:
        """The units of each recurrent layer, from the lowest to the highest."""
        return self.layer_sizes or [self.hidden_size] * self.num_layers
