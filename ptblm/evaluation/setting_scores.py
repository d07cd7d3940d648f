"""Scores a text with many values of a setting in one pass of the models.

The sums are accumulated chunk by chunk, so the memory does not depend on the length of the text,
except for the probabilities of the members of an ensemble: eight bytes per token and model.

Shapes: N tokens of the text, T tokens of a chunk, K values, M models.
"""

import math
from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ptblm.evaluation.grid_search import Point
from ptblm.evaluation.scorers.averaging import mean_log_probs, target_log_probs
from ptblm.evaluation.scorers.neural_cache import NeuralCache, mix_cache
from ptblm.evaluation.scorers.pipeline import Pipeline, text_chunks

Progress = Callable[[int], None]


def temperature_nll(
    pipeline: Pipeline, ids: Tensor, temperatures: Sequence[float], progress: Progress
) -> list[float]:
    """Returns the summed -log p of a text at each temperature, in nats, [K].

    Args:
        pipeline: the pipeline without a cache; its own temperature is not used.
        ids: the text, [N + 1].
        temperatures: the temperatures.
        progress: receives the number of tokens that were scored.
    """
    scorer, total, done = pipeline.start(), np.zeros(len(temperatures)), 0
    for inputs, targets in text_chunks(ids, scorer):
        with torch.inference_mode():
            parts = scorer.predictions(inputs, scorer.features(inputs))
            log_probs = mean_log_probs(
                (
                    share,
                    torch.stack([target_log_probs(part, targets, each) for each in temperatures]),
                )
                for share, part in parts
            )  # [K, T]
            total -= log_probs.double().sum(dim=1).cpu().numpy()
        scorer.adapt(inputs, targets)
        done += len(targets)
        progress(done)
    return [float(each) for each in total]


def cache_nll(
    pipeline: Pipeline, ids: Tensor, points: Sequence[Point], progress: Progress
) -> list[float]:
    """Returns the summed -log p of a text for each window, theta and weight, in nats, [K].

    Args:
        pipeline: the pipeline, with a cache whose window is at least as large as all windows.
        ids: the text, [N + 1].
        points: window, theta and weight of each cache.
        progress: receives the number of tokens that were scored.
    """
    settings = pipeline.settings
    largest = max(int(window) for window, _, _ in points)
    order = sorted(range(len(points)), key=lambda index: points[index][:2])
    scorer, total, done = pipeline.start(), np.zeros(len(points)), 0
    caches = [NeuralCache(largest) for _ in pipeline.shares]
    for inputs, targets in text_chunks(ids, scorer):
        with torch.inference_mode():
            features = scorer.features(inputs)
            log_probs = mean_log_probs(
                (share, target_log_probs(part, targets, settings.temperature))
                for share, part in scorer.predictions(inputs, features)
            )  # [T]
            entries = [
                cache.read(part, targets) for cache, part in zip(caches, features, strict=True)
            ]
            for (window, theta), group in groupby(order, key=lambda index: points[index][:2]):
                probs = torch.zeros_like(log_probs)
                for share, each in zip(pipeline.shares, entries, strict=True):
                    attention = each.attention(int(window), theta)
                    probs = probs + share * each.target_probs(attention)
                for index in group:
                    mixed = mix_cache(log_probs, probs, points[index][2], entries[0].is_empty)
                    total[index] -= float(mixed.double().sum())
        scorer.adapt(inputs, targets)
        done += len(targets)
        progress(done)
    return [float(each) for each in total]


def member_log_probs(pipeline: Pipeline, ids: Tensor, progress: Progress) -> NDArray[np.float64]:
    """Returns the log-probability of each token under each model of an ensemble, [N, M].

    Args:
        pipeline: the pipeline without a cache.
        ids: the text, [N + 1].
        progress: receives the number of tokens that were scored.
    """
    scorer, found, done = pipeline.start(), [], 0
    temperature, monte_carlo = pipeline.settings.temperature, pipeline.settings.monte_carlo
    samples = 1 if monte_carlo is None else monte_carlo.samples
    for inputs, targets in text_chunks(ids, scorer):
        with torch.inference_mode():
            parts = scorer.predictions(inputs, scorer.features(inputs))
            rows = [target_log_probs(part, targets, temperature) for _, part in parts]
            models = torch.stack(rows).double().unflatten(0, (-1, samples))  # [M, samples, T]
            log_probs = models.logsumexp(dim=1) - math.log(samples)
            found.append(log_probs.t().cpu().numpy())
        scorer.adapt(inputs, targets)
        done += len(targets)
        progress(done)
    return np.concatenate(found)
