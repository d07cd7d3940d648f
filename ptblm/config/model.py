"""Config keys of the model."""

from typing import Annotated, Literal

from pydantic import Field

from ptblm.config.cells import CellConfig, LSTMConfig
from ptblm.config.section import LARGEST, Section


class ModelConfig(Section):
    """The model: embedding, dropout, recurrent layers, dropout, softmax."""

    cell: Annotated[
        CellConfig,
        Field(
            description="recurrent cell: lstm, rnn, gru, slstm, janet, mogrifier, or a custom "
            "cell as my_module:MyCell"
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
