"""Finds settings of an evaluation that lower the perplexity of a validation text.

The settings are tuned one after the other, each with the best ones before it: dynamic evaluation,
temperature, the weights of an ensemble, the cache. A setting that does not help is left out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from ptblm.config.evaluation import CacheSettings, DynamicSettings, EvaluationSettings
from ptblm.evaluation.grid_search import Axis, Found, Point, search
from ptblm.evaluation.mixture import mixture_weights
from ptblm.evaluation.score import perplexity
from ptblm.evaluation.scorers.pipeline import Pipeline, pipeline_scores
from ptblm.evaluation.setting_scores import (
    cache_nll,
    member_log_probs,
    temperature_nll,
)

# Called with what is tuned and the number of tokens of this pass.
Progress = Callable[[str, int], None]

_TEMPERATURE = Axis("temperature", (0.5, 0.7, 0.85, 1.0, 1.15, 1.4, 2.0), 0.01, 100, refinements=3)
# Those of the authors' code, for segments of five tokens.
_LEARNING_RATES = (3e-5, 4e-5, 5e-5, 6e-5, 7e-5, 1e-4)
_DECAYS = (1e-3, 2e-3, 3e-3, 5e-3)
_WINDOWS = (100.0, 500.0, 2000.0)
_LARGEST_WINDOW = 10_000
_THETA = Axis("theta", (0.1, 0.2, 0.3, 0.5, 0.7, 1.0), 1e-3, 1000, refinements=1)
_WEIGHT = Axis("weight", (0.02, 0.05, 0.1, 0.15, 0.2, 0.3), 1e-3, 0.95, refinements=2)


@dataclass(frozen=True)
class Wanted:
    """What is tuned besides the temperature, and the weights of an ensemble.

    Attributes:
        dynamic: dynamic evaluation, whose learning rate and decay are tuned; None for fixed
            weights.
        cache: whether to tune a neural cache.
    """

    dynamic: DynamicSettings | None = None
    cache: bool = False


@dataclass
class TuneOutcome:
    """The result of tuning.

    Attributes:
        settings: the best settings.
        tokens: targets of the text.
        before: perplexity of the static evaluation.
        after: perplexity with the settings.
        edges: settings whose best value is at an edge of the values that were tried.
        tried: the values that were tried, each with the perplexity of the text.
    """

    settings: EvaluationSettings
    tokens: int
    before: float
    after: float
    edges: list[str] = field(default_factory=list)
    tried: list[dict[str, float]] = field(default_factory=list)


class SettingsTuner:
    """Tunes settings on one text.

    Args:
        make_pipeline: returns the pipeline of settings.
        models: number of models.
        ids: the text, [N + 1].
        progress: see `Progress`.
    """

    def __init__(
        self,
        make_pipeline: Callable[[EvaluationSettings], Pipeline],
        models: int,
        ids: Tensor,
        progress: Progress,
    ) -> None:
        self._make_pipeline = make_pipeline
        self._models = models
        self._ids = ids
        self._tokens = len(ids) - 1
        self._progress = progress
        self._tried: list[dict[str, float]] = []
        self._edges: list[str] = []

    def tune(self, start: EvaluationSettings, wanted: Wanted) -> TuneOutcome:
        """Returns the best settings that were found.

        Args:
            start: the settings that are not tuned, such as dropout samples.
            wanted: what is tuned.
        """
        before = self._nll(EvaluationSettings(), "static evaluation")
        settings, best = start, before
        if start.active() != EvaluationSettings():
            best = self._nll(settings, "evaluation")
        if wanted.dynamic is not None:
            settings, best = self._tune_dynamic(settings, wanted.dynamic, best)
        settings, best = self._tune_temperature(settings, best)
        if self._models > 1:
            settings = self._tune_weights(settings)
            best = self._nll(settings, "weights")
            self._record({f"weights.{i}": w for i, w in enumerate(settings.weights or [])}, best)
        if wanted.cache:
            settings = self._tune_cache(settings, best)
        after = self._nll(settings, "tuned settings")
        return TuneOutcome(
            settings,
            self._tokens,
            self._perplexity(before),
            self._perplexity(after),
            self._edges,
            self._tried,
        )

    def _tune_dynamic(
        self, settings: EvaluationSettings, dynamic: DynamicSettings, best: float
    ) -> tuple[EvaluationSettings, float]:
        scale = dynamic.segment_length / 5
        dynamic = dynamic.model_copy(update={"decay": dynamic.decay * scale})
        for key, values in (("learning_rate", _LEARNING_RATES), ("decay", _DECAYS)):
            axis = Axis(key, tuple(value * scale for value in values), 1e-12, 1e6)
            found = self._search(
                [axis], partial(self._dynamic_nll, settings, dynamic, key), "dynamic"
            )
            dynamic = dynamic.model_copy(update={key: found.best[0]})
        if found.value >= best:
            return settings, best
        return settings.model_copy(update={"dynamic": dynamic}), found.value

    def _dynamic_nll(
        self,
        settings: EvaluationSettings,
        dynamic: DynamicSettings,
        key: str,
        points: list[Point],
    ) -> list[float]:
        """Returns the summed -log p of the text for each value of a key of dynamic evaluation."""
        return [
            self._nll(
                settings.model_copy(update={"dynamic": dynamic.model_copy(update={key: value})}),
                f"{key} {value:.4g}",
            )
            for (value,) in points
        ]

    def _tune_temperature(
        self, settings: EvaluationSettings, best: float
    ) -> tuple[EvaluationSettings, float]:
        def evaluate(points: list[Point]) -> list[float]:
            pipeline = self._make_pipeline(settings)
            temperatures = [value for (value,) in points]
            return temperature_nll(pipeline, self._ids, temperatures, self._at("temperature"))

        found = self._search([_TEMPERATURE], evaluate)
        if found.value >= best:
            return settings, best
        return settings.model_copy(update={"temperature": found.best[0]}), found.value

    def _tune_weights(self, settings: EvaluationSettings) -> EvaluationSettings:
        pipeline = self._make_pipeline(settings)
        log_probs = member_log_probs(pipeline, self._ids, self._at("weights"))
        return settings.model_copy(update={"weights": mixture_weights(log_probs)})

    def _tune_cache(self, settings: EvaluationSettings, best: float) -> EvaluationSettings:
        limit = float(min(self._tokens, _LARGEST_WINDOW))
        values = tuple(value for value in _WINDOWS if value < limit)
        # A window that is not smaller than the text contains all of it.
        values = values if len(values) > 1 else tuple(sorted({max(1.0, limit // 4), limit}))
        window = Axis("window", values, 1, limit, is_integer=True)

        def evaluate(points: list[Point]) -> list[float]:
            largest = max(int(point[0]) for point in points)
            cache = CacheSettings(window=largest)
            pipeline = self._make_pipeline(settings.model_copy(update={"cache": cache}))
            return cache_nll(pipeline, self._ids, points, self._at("cache"))

        found = self._search([window, _THETA, _WEIGHT], evaluate, "cache")
        if found.value >= best:
            return settings
        size, theta, weight = found.best
        cache = CacheSettings(window=int(size), theta=theta, weight=weight)
        return settings.model_copy(update={"cache": cache})

    def _search(
        self,
        axes: list[Axis],
        evaluate: Callable[[list[Point]], list[float]],
        section: str | None = None,
    ) -> Found:
        """Searches for the best values, and records what was tried."""
        found = search(axes, evaluate)
        keys = [axis.name if section is None else f"{section}.{axis.name}" for axis in axes]
        for point, nll in found.tried.items():
            self._record(dict(zip(keys, point, strict=True)), nll)
        self._edges += [
            key for key, axis in zip(keys, axes, strict=True) if axis.name in found.edges
        ]
        return found

    def _record(self, values: dict[str, float], nll: float) -> None:
        self._tried.append({**values, "perplexity": self._perplexity(nll)})

    def _nll(self, settings: EvaluationSettings, name: str) -> float:
        """Returns the summed -log p of the text."""
        nll = 0.0
        for score in pipeline_scores(self._make_pipeline(settings), self._ids):
            nll = score.nll
            self._progress(name, score.tokens)
        return nll

    def _at(self, name: str) -> Callable[[int], None]:
        return lambda tokens: self._progress(name, tokens)

    def _perplexity(self, nll: float) -> float:
        return perplexity(nll, self._tokens)
