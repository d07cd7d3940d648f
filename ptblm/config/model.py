"""The keys that say what the model is."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from ptblm.config.section import LARGEST, Section


class ModelConfig(Section):
    """The model: embedding, dropout, recurrent layers, dropout, softmax."""

    options: ClassVar = {
        "cell": {
            "forget_bias": ("lstm", "slstm", "mogrifier"),
            "peepholes": ("lstm",),
            "projection_size": ("lstm",),
            "gate_activation": ("lstm", "gru"),
            "activation": ("lstm", "gru", "rnn"),
            "reset_gate": ("gru",),
            "janet_beta": ("janet",),
            "chrono_steps": ("janet",),
            "mogrifier_rounds": ("mogrifier",),
        },
    }

    cell: Annotated[
        str,
        Field(
            max_length=200,
            pattern=r"^(lstm|rnn|gru|slstm|janet|mogrifier|[^\W\d]\w*:[^\W\d]\w*)$",
            description="lstm, rnn, gru, slstm, janet, mogrifier, or my_module:MyCell",
        ),
    ] = "lstm"
    hidden_size: Annotated[
        int, Field(ge=1, le=1_000_000, description="units in each recurrent layer")
    ] = 200
    embedding_size: Annotated[
        int | None,
        Field(ge=1, le=1_000_000, description="numbers per word vector; null: as hidden_size"),
    ] = None
    num_layers: Annotated[int, Field(ge=1, le=1000, description="recurrent layers")] = 2
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of activations dropped: after the embedding and after every "
            "layer, never on the recurrent state",
        ),
    ] = 0.0
    forget_bias: Annotated[
        float,
        Field(
            ge=-LARGEST,
            le=LARGEST,
            description="constant added to the forget gate's input; not trained (lstm, slstm, "
            "mogrifier)",
        ),
    ] = 0.0
    peepholes: Annotated[bool, Field(description="whether the gates see the cell's c (lstm)")] = (
        False
    )
    projection_size: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000,
            description="numbers that the output is projected to; null: no projection (lstm)",
        ),
    ] = None
    gate_activation: Annotated[
        Literal["sigmoid", "hard_sigmoid"],
        Field(description="of the gates: sigmoid or hard_sigmoid (lstm, gru)"),
    ] = "sigmoid"
    activation: Annotated[
        Literal["tanh", "relu", "linear"],
        Field(description="of the rest: tanh, relu or linear (lstm, gru, rnn)"),
    ] = "tanh"
    reset_gate: Annotated[
        Literal["before", "after"],
        Field(description="whether it acts before or after the state's product (gru)"),
    ] = "after"
    janet_beta: Annotated[
        float,
        Field(
            ge=-LARGEST,
            le=LARGEST,
            description="how much more is let in than is forgotten (janet)",
        ),
    ] = 1.0
    chrono_steps: Annotated[
        int | None,
        Field(
            ge=3,
            le=10**9,
            description="forget biases start for memories of up to so many steps; null: at zero "
            "(janet)",
        ),
    ] = None
    mogrifier_rounds: Annotated[
        int, Field(ge=0, le=100, description="in which input and state gate each other (mogrifier)")
    ] = 5
    initializer: Annotated[
        Literal["uniform", "glorot_uniform", "orthogonal"],
        Field(description="of the recurrent layers: uniform, glorot_uniform or orthogonal"),
    ] = "uniform"
    initial_state: Annotated[
        Literal["zeros", "ones", "learned"],
        Field(description="the state before a text's first word: zeros, ones or learned"),
    ] = "zeros"
    init_scale: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="weights start uniform in [-init_scale, init_scale]; the recurrent ones "
            "if initializer is uniform",
        ),
    ] = 0.1
