"""Calibration: agreement with the truth for tokens that are drawn from the model itself."""

import math

import numpy as np
import torch
from torch import Tensor

from ptblm.evaluation.analysis import CalibrationBin
from ptblm.evaluation.calibration import Calibration
from tests.evaluation.small_models import VOCABULARY, small_model

CONTEXTS, STEPS = 1000, 20


def drawn() -> tuple[Tensor, Tensor]:
    """Distributions of a model after random contexts, [N, V], and a token drawn from each, [N]."""
    generator = torch.Generator().manual_seed(2)
    model = small_model()
    with torch.no_grad():
        model.head.weight.mul_(12)  # small and large probabilities
        ids = torch.randint(VOCABULARY, (CONTEXTS, STEPS), generator=generator)
        features, _ = model.features(ids, model.initial_state(CONTEXTS))
        log_probs = model.head.log_probs(features.flatten(0, 1))
    return log_probs, torch.multinomial(log_probs.exp(), 1, generator=generator)[:, 0]


def bins_of(log_probs: Tensor, targets: Tensor) -> list[CalibrationBin]:
    calibration = Calibration()
    for part, ids in zip(log_probs.split(7001), targets.split(7001), strict=True):
        calibration.add(part, ids)
    return calibration.bins()


def deviations(bins: list[CalibrationBin]) -> list[float]:
    """Frequency minus probability of each bin, in standard deviations of a binomial variable."""
    return [
        (each.frequency - each.mean_probability)
        / math.sqrt(each.mean_probability * (1 - each.mean_probability) / each.predictions)
        for each in bins
        if each.predictions * each.mean_probability > 10
    ]


def test_model_is_calibrated_for_its_own_tokens() -> None:
    found = deviations(bins_of(*drawn()))
    assert len(found) >= 8
    assert np.abs(found).max() < 4.5


def test_wrong_probabilities_are_not_calibrated() -> None:
    log_probs, targets = drawn()
    wrong = torch.log_softmax(log_probs / 1.5, dim=1)
    assert np.abs(deviations(bins_of(wrong, targets))).max() > 10


def test_bins_account_for_every_prediction() -> None:
    log_probs, targets = drawn()
    bins = bins_of(log_probs, targets)
    assert sum(each.predictions for each in bins) == log_probs.numel()
    hits = sum(each.predictions * each.frequency for each in bins)
    mass = sum(each.predictions * each.mean_probability for each in bins)
    assert abs(hits - len(targets)) < 1e-6
    assert abs(mass - len(targets)) < 1e-6


def test_bins_divide_probabilities_by_their_logarithm() -> None:
    log_probs, targets = drawn()
    edges = np.r_[0, 10 ** np.arange(-6, 0.01, 0.25)]
    edges[-1] = 1.1
    probabilities = log_probs.exp().flatten().numpy()
    counts, _ = np.histogram(probabilities, edges)
    sums, _ = np.histogram(probabilities, edges, weights=probabilities)
    bins = bins_of(log_probs, targets)
    assert [each.predictions for each in bins] == counts[counts > 0].tolist()
    means = sums[counts > 0] / counts[counts > 0]
    np.testing.assert_allclose([each.mean_probability for each in bins], means, rtol=1e-9)


def test_impossible_and_certain_tokens_have_bins() -> None:
    log_probs = torch.tensor([[0.0, -math.inf], [0.0, -math.inf]])
    assert bins_of(log_probs, torch.tensor([0, 0])) == [(2, 0.0, 0.0), (2, 1.0, 1.0)]
