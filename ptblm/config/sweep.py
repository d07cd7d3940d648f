"""Keys of a sweep: which configs it tries, how it searches, and when it ends a run early."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from ptblm.config.section import LARGEST, Section, Variant, expand_variant, variant_type

_Number = Annotated[int | float, Field(ge=-LARGEST, le=LARGEST)]
_MAX_CHOICES = _MAX_KEYS = 100  # every choice is checked


class Range(Section):
    """The values of a key from `low` to `high`: numbers, or whole numbers if the key needs them."""

    low: Annotated[_Number, Field(description="the lowest value")]
    high: Annotated[_Number, Field(description="the highest value")]
    log: Annotated[bool, Field(description="whether to draw the logarithm uniformly")] = False
    step: Annotated[
        _Number | None, Field(gt=0, description="distance between two values; null for any value")
    ] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.low >= self.high:
            raise _error("high", f"must be greater than low, {self.low:g}", self.high)
        if self.log and self.low <= 0:
            raise _error("low", "must be greater than 0 with log: true", self.low)
        if self.step is not None and self.log:
            raise _error("step", "cannot be combined with log: true", self.step)
        if self.step is not None:
            steps = (self.high - self.low) / self.step
            if abs(steps - round(steps)) > 1e-6:
                problem = f"must divide the distance from low to high, {self.high - self.low:g}"
                raise _error("step", problem, self.step)
        return self


def _error(key: str, problem: str, value: object) -> PydanticCustomError:
    details = {"key": key, "problem": problem, "value": value}
    return PydanticCustomError("option", "{problem}", details)


def _kind(values: Any) -> str | None:
    if isinstance(values, dict | Range):
        return "range"
    return "choices" if isinstance(values, list) else None


Values = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[list[Any], Field(min_length=1, max_length=_MAX_CHOICES), Tag("choices")],
    Discriminator(_kind),
]


class MedianPruner(Variant):
    """Ends a run whose best epoch is worse than the median of the other runs at the same epoch."""

    type: Literal["median"] = "median"
    startup: Annotated[
        int, Field(ge=1, le=10**6, description="finished trials before the first one is pruned")
    ] = 5
    warmup_epochs: Annotated[
        int, Field(ge=0, le=10**6, description="epochs of a trial before it can be pruned")
    ] = 0


class HyperbandPruner(Variant):
    """Hyperband (Li et al. 2018): trains the best runs for more epochs."""

    type: Literal["hyperband"] = "hyperband"
    min_epochs: Annotated[
        int, Field(ge=1, le=10**6, description="epochs of a trial before it can be pruned")
    ] = 1
    reduction: Annotated[
        int, Field(ge=2, le=100, description="one in this number of trials gets more epochs")
    ] = 3


class NoPruner(Variant):
    """Trains every run to its end."""

    type: Literal["none"] = "none"


PrunerConfig = Annotated[
    Annotated[MedianPruner, Tag("median")]
    | Annotated[HyperbandPruner, Tag("hyperband")]
    | Annotated[NoPruner, Tag("none")],
    Discriminator(variant_type),
    BeforeValidator(lambda value: expand_variant(value, "median")),
]


class RepeatBest(Section):
    """Repeats the best configs with other seeds; only these runs are tested."""

    top: Annotated[int, Field(ge=1, le=1000, description="number of configs")] = 1
    seeds: Annotated[int, Field(ge=1, le=1000, description="runs of each config")] = 3


class SweepConfig(Section):
    """A sweep: a config, the keys to vary, and how to search."""

    config: Annotated[
        str, Field(min_length=1, description="shipped config, or path of a YAML file")
    ] = "small"
    set: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="keys of the config to override"),
    ]
    space: Annotated[
        dict[str, Values],
        Field(
            min_length=1,
            max_length=_MAX_KEYS,
            description="the values of each key: a list, or low and high",
        ),
    ]
    metric: Annotated[
        Literal["valid_perplexity"],
        Field(description="the value to minimize: the valid perplexity of the best epoch"),
    ] = "valid_perplexity"
    sampler: Annotated[
        Literal["tpe", "random", "grid", "qmc"],
        Field(description="sampler of the values: tpe, random, grid (all combinations) or qmc"),
    ] = "tpe"
    pruner: Annotated[
        PrunerConfig, Field(description="rule that ends runs early: median, hyperband or none")
    ] = MedianPruner()
    trials: Annotated[
        int | None,
        Field(ge=1, le=100_000, description="number of trials; null for all of a grid"),
    ] = None
    repeat_best: RepeatBest | None = None
