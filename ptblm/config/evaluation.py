"""Settings of an evaluation, as in the file that `ptblm tune-eval` writes.

All sections are optional. Without them, the evaluation is static: fixed weights, no dropout, and
the softmax of the model.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from ptblm.config.section import LARGEST, Section

_TOLERANCE = 1e-6  # of the sum of the weights


class MonteCarloSettings(Section):
    """Monte-Carlo dropout: the mean probability of several dropout samples."""

    samples: Annotated[
        int, Field(ge=0, le=10**4, description="samples of the dropout masks; 0 for no dropout")
    ] = 10
    seed: Annotated[int, Field(ge=0, lt=2**63, description="random seed of the masks")] = 0


class DynamicSettings(Section):
    """Dynamic evaluation: the weights adapt to the text that was scored (Krause et al. 2018)."""

    rule: Annotated[
        Literal["rms", "sgd"],
        Field(
            description="rms divides gradients by their root mean square in training; sgd does not "
            "need the training text"
        ),
    ] = "rms"
    learning_rate: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="learning rate for the mean loss of a segment; 0 for fixed weights",
        ),
    ] = 5e-5
    decay: Annotated[
        float,
        Field(ge=0, le=LARGEST, description="rate at which weights return to the trained ones"),
    ] = 0.002
    epsilon: Annotated[
        float, Field(gt=0, le=LARGEST, description="added to the root mean square of gradients")
    ] = 2e-5
    segment_length: Annotated[
        int, Field(ge=1, le=10**4, description="tokens that are scored before each update")
    ] = 5


class CacheSettings(Section):
    """Neural cache: recent words are more probable in similar contexts (Grave et al. 2017)."""

    window: Annotated[
        int, Field(ge=1, le=10**5, description="number of previous tokens in the cache")
    ] = 500
    theta: Annotated[
        float, Field(ge=0, le=1000, description="factor on the similarity of two contexts")
    ] = 1.0
    weight: Annotated[
        float, Field(ge=0, lt=1, description="weight of the cache in the mixture; 0 for no cache")
    ] = 0.1


class TunedCheckpoint(Section):
    """A checkpoint that settings were tuned for.

    Attributes:
        file: the checkpoint file.
        sha256: the hash of its content.
    """

    file: str
    sha256: str


class Tuned(Section):
    """How settings were found; for information only.

    Attributes:
        checkpoints: the checkpoints.
        text: name of the text.
        tokens: targets of the text.
        perplexity_before: perplexity of the static evaluation; None if it is not finite.
        perplexity_after: perplexity with the settings.
        edges: keys whose best value is the largest or smallest one that was tried.
        tried: the values that were tried, each with the perplexity of the text; None if it is
            not finite.
    """

    checkpoints: list[TunedCheckpoint]
    text: str
    tokens: int
    perplexity_before: float | None
    perplexity_after: float
    edges: list[str]
    tried: list[dict[str, float | None]]


class EvaluationSettings(Section):
    """How the probabilities of a text are computed, in this order.

    The temperature applies to the model in each dropout sample. The probabilities of the samples
    and of the models are averaged. The cache is mixed with the mean.
    """

    temperature: Annotated[
        float,
        Field(gt=0, le=1000, description="divisor of the logits; 1 for the softmax of the model"),
    ] = 1.0
    weights: Annotated[
        list[float] | None,
        Field(description="weight of each checkpoint of an ensemble; null for equal weights"),
    ] = None
    monte_carlo: Annotated[MonteCarloSettings | None, Field(description="dropout samples")] = None
    dynamic: Annotated[DynamicSettings | None, Field(description="dynamic evaluation")] = None
    cache: Annotated[CacheSettings | None, Field(description="neural cache")] = None
    tuned: Annotated[Tuned | None, Field(description="how the settings were found")] = None

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and (not value or min(value) < 0 or abs(sum(value) - 1) > _TOLERANCE):
            raise PydanticCustomError("weights", "expected weights from 0 to 1 whose sum is 1")
        return value

    def active(self) -> "EvaluationSettings":
        """Returns the settings without sections that change nothing, and without `tuned`.

        Dynamic evaluation with learning rate 0 is the static evaluation, and is computed as such,
        so that the result is the same bit for bit.
        """
        monte_carlo, dynamic, cache = self.monte_carlo, self.dynamic, self.cache
        return self.model_copy(
            update={
                "monte_carlo": monte_carlo if monte_carlo and monte_carlo.samples else None,
                "dynamic": dynamic if dynamic and dynamic.learning_rate else None,
                "cache": cache if cache and cache.weight else None,
                "tuned": None,
            }
        )

    def is_static(self) -> bool:
        """Returns whether the evaluation of one model is the static one."""
        return self.active() == EvaluationSettings(weights=self.weights)

    def shares(self, models: int) -> Sequence[float]:
        """Returns the weight of each of a number of models."""
        return self.weights or [1 / models] * models
