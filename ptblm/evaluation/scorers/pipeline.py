"""Combines models, temperature, dropout samples, cache and dynamic evaluation.

The memory is bounded, regardless of the length of the text: a chunk, the hidden states, the entries
of the cache, and for dynamic evaluation a few copies of the weights and the activations of a
segment.

Shapes: T tokens of a chunk, N tokens of the text, V vocabulary, H features.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ptblm.config.evaluation import CacheSettings, DynamicSettings, EvaluationSettings
from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.score import Score
from ptblm.evaluation.scorer import chunk_score, default_chunk_steps, on_device
from ptblm.evaluation.scorers.averaging import mean_log_probs, tempered
from ptblm.evaluation.scorers.dynamic import AdaptiveModel
from ptblm.evaluation.scorers.neural_cache import NeuralCache, mix_cache
from ptblm.evaluation.scorers.reader import ModelReader
from ptblm.evaluation.token_scores import Measures, TokenScores, distribution_scores
from ptblm.model.language_model import LanguageModel

# Elements of the similarities of a chunk to the entries of a cache. 16 MB in fp32.
_ELEMENTS = 2**22


class Pipeline:
    """Models and settings, which score one text after the other.

    Args:
        models: the models, in evaluation mode, with the same vocabulary. They are not modified.
        settings: the settings.
        window: tokens for which Monte-Carlo dropout keeps masks: `training.num_steps`.
        rms: for each model, the result of `gradient_rms`, which rule "rms" of dynamic evaluation
            needs.

    Attributes:
        settings: the settings without sections that change nothing.
        shares: the weight of each model.
        steps: T, the largest number of tokens of a chunk. Masks are drawn between chunks.
    """

    def __init__(
        self,
        models: Sequence[LanguageModel],
        settings: EvaluationSettings,
        window: int,
        rms: Sequence[Sequence[Tensor]] | None = None,
    ) -> None:
        self.settings = settings.active()
        self.shares = settings.shares(len(models))
        self._models = list(models)
        self._adaptive: list[AdaptiveModel] = []
        dynamic, cache = self.settings.dynamic, self.settings.cache
        if dynamic is not None:
            for index, model in enumerate(models):
                statistics = None if rms is None else rms[index]
                self._adaptive.append(AdaptiveModel(model, dynamic, statistics))
            self._models = [adaptive.model for adaptive in self._adaptive]
        self.steps = min(default_chunk_steps(model) for model in models)
        if cache is not None:  # T (window + T) elements
            root = math.isqrt(cache.window**2 + 4 * _ELEMENTS)
            self.steps = min(self.steps, max(1, (root - cache.window) // 2))
        if self.settings.monte_carlo is not None:
            self.steps = min(self.steps, window)

    def start(self) -> "PipelineScorer":
        """Returns a scorer at the start of a text, with the trained weights and an empty cache.

        Scorers of dynamic evaluation share the weights, so a new scorer ends the previous one.
        """
        for adaptive in self._adaptive:
            adaptive.restart()
        monte_carlo = self.settings.monte_carlo
        samples = 0 if monte_carlo is None else monte_carlo.samples
        seed = 0 if monte_carlo is None else monte_carlo.seed
        readers = [ModelReader(model, samples, seed) for model in self._models]
        return PipelineScorer(readers, self.shares, self.settings, self.steps, self._adaptive)


class PipelineScorer:
    """A `Scorer` with the models and settings of a pipeline. `Pipeline.start` makes one.

    Args:
        readers: the models.
        shares: the weight of each model.
        settings: the settings.
        steps: the largest number of tokens of a chunk.
        adaptive: the models as dynamic evaluation adapts them; empty for fixed weights.
    """

    def __init__(
        self,
        readers: Sequence[ModelReader],
        shares: Sequence[float],
        settings: EvaluationSettings,
        steps: int,
        adaptive: Sequence[AdaptiveModel],
    ) -> None:
        self._readers = readers
        self._shares = shares
        self._settings = settings
        self._steps = steps
        self._adaptive = adaptive
        self._segment: list[tuple[Tensor, Tensor]] = []  # scored chunks, before the update
        self._caches = [
            NeuralCache(settings.cache.window) for _ in readers if settings.cache is not None
        ]

    @property
    def chunk_size(self) -> int:
        """The largest number of tokens of the next chunk, which must not exceed its segment."""
        dynamic = self._settings.dynamic
        return self._steps if dynamic is None else min(self._steps, self._missing(dynamic))

    def __call__(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Returns the log-probability of every token after each input, [T, V].

        Args:
            inputs: ids, [T], at most `chunk_size`.
            targets: the ids that follow them, [T], to which cache and weights adapt afterwards.
        """
        with torch.inference_mode():
            features = self.features(inputs)
            parts = self.predictions(inputs, features)
            temperature = self._settings.temperature
            log_probs = mean_log_probs(
                (share, tempered(part, temperature)) for share, part in parts
            )
            if self._settings.cache is not None:
                log_probs = self._with_cache(self._settings.cache, log_probs, features, targets)
        self.adapt(inputs, targets)
        return log_probs

    def token_scores(self, inputs: Ids, targets: Ids, measures: Measures) -> TokenScores:
        """Returns the scores of the next tokens; see `Scorer`. The states cannot be measured."""
        device = next(self._readers[0].model.parameters()).device
        ids, next_ids = (on_device(part, device).long() for part in (inputs, targets))
        return distribution_scores(self(ids, next_ids), next_ids, measures)

    def features(self, inputs: Tensor) -> list[Tensor]:
        """Returns the features of each model without dropout, [T, H]; empty if nothing needs them.

        Args:
            inputs: ids, [T].
        """
        if self._settings.monte_carlo is not None and self._settings.cache is None:
            return []
        return [reader.features(inputs) for reader in self._readers]

    def predictions(
        self, inputs: Tensor, features: Sequence[Tensor]
    ) -> Iterator[tuple[float, Tensor]]:
        """Yields share and log-probabilities, [T, V], of each sample of each model.

        Args:
            inputs: ids, [T].
            features: the result of `features`.
        """
        monte_carlo = self._settings.monte_carlo
        for index, (reader, share) in enumerate(zip(self._readers, self._shares, strict=True)):
            if monte_carlo is None:
                yield share, reader.model.head.log_probs(features[index])
            else:
                for log_probs in reader.sampled_log_probs(inputs):
                    yield share / monte_carlo.samples, log_probs

    def adapt(self, inputs: Tensor, targets: Tensor) -> None:
        """Adapts the weights of dynamic models if the scored chunk completes a segment."""
        if self._settings.dynamic is None:
            return
        self._segment.append((inputs, targets))
        if self._missing(self._settings.dynamic) > 0:
            return
        inputs, targets = (torch.cat(parts) for parts in zip(*self._segment, strict=True))
        self._segment = []
        for adaptive in self._adaptive:
            adaptive.adapt(inputs, targets)

    def _missing(self, settings: DynamicSettings) -> int:
        """Returns the number of tokens that complete the segment."""
        return settings.segment_length - sum(len(inputs) for inputs, _ in self._segment)

    def _with_cache(
        self,
        settings: CacheSettings,
        log_probs: Tensor,
        features: Sequence[Tensor],
        targets: Tensor,
    ) -> Tensor:
        """Mixes the mean of the models with the mean of their caches, [T, V]."""
        total = torch.zeros((), device=targets.device)
        for cache, part, share in zip(self._caches, features, self._shares, strict=True):
            entries = cache.read(part, targets)
            words, probs = entries.probs(entries.attention(settings.window, settings.theta))
            total = total + share * probs  # the words of all caches are the same
        # Most of the vocabulary is not in the cache.
        mixed = mix_cache(log_probs, None, settings.weight, entries.is_empty)
        of_words = mix_cache(log_probs[:, words], total, settings.weight, entries.is_empty)
        return mixed.index_copy_(1, words, of_words)


def text_chunks(ids: Tensor, scorer: PipelineScorer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields inputs and targets of a text, [N], each [T], in chunks for a scorer to adapt to."""
    start = 0
    while start < len(ids) - 1:
        chunk = ids[start : start + scorer.chunk_size + 1].long()
        yield chunk[:-1], chunk[1:]
        start += len(chunk) - 1


def pipeline_scores(
    pipeline: Pipeline, ids: Tensor, special_ids: Mapping[str, int] | None = None
) -> Iterator[Score]:
    """Yields the cumulative score of a text after each chunk, as `running_scores` does.

    Args:
        pipeline: the pipeline.
        ids: token ids of any integer type, [N]. The text is one stream.
        special_ids: ids of the special tokens that `Score.breakdown` scores separately, by token.
    """
    scorer, score = pipeline.start(), Score()
    for inputs, targets in text_chunks(ids, scorer):
        log_probs = scorer(inputs, targets)
        nll = -log_probs.gather(1, targets[:, None])[:, 0]  # [T]
        score += chunk_score(nll[None].double(), targets[None], special_ids or {})
        yield score
