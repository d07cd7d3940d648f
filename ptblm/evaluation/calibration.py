"""Calibration: how often predictions of each probability come true.

Every probability of every distribution is a prediction, not only that of the token that follows. In
a calibrated model, of all predictions with a probability of about 1%, about 1% come true.

Shapes: N tokens, V vocabulary, K bins.
"""

import math

import numpy as np
import torch
from torch import Tensor

from ptblm.evaluation.analysis import CalibrationBin

# The bins divide each power of ten into equal parts on a logarithmic scale. All probabilities below
# the smallest power are one bin.
_BINS_PER_DECADE = 4
_DECADES = 6
_BINS = _DECADES * _BINS_PER_DECADE + 1
# Elements that are assigned to bins at once. They stay in the cache of a CPU.
_ELEMENTS = 2**17


class Calibration:
    """Counts the predictions of a model in bins of their probability, in constant memory."""

    def __init__(self) -> None:
        self._predictions = np.zeros(_BINS, dtype=np.int64)
        self._came_true = np.zeros(_BINS, dtype=np.int64)
        self._probability = np.zeros(_BINS)  # sums

    def add(self, log_probs: Tensor, targets: Tensor) -> None:
        """Counts the predictions for N tokens.

        Args:
            log_probs: log-probabilities in nats, [N, V].
            targets: ids of the tokens that follow, [N].
        """
        rows = max(1, _ELEMENTS // log_probs.shape[1])
        pairs = zip(log_probs.cpu().split(rows), targets.cpu().split(rows), strict=True)
        for part, ids in pairs:
            # The conversion to integers rounds down, because no value is negative.
            scaled = (part * (_BINS_PER_DECADE / math.log(10))).add_(_BINS).clamp_(0, _BINS - 1)
            bins = scaled.long()  # [N, V]
            flat = bins.flatten()
            probabilities = part.double().exp_().flatten()
            self._predictions += torch.bincount(flat, minlength=_BINS).numpy()
            self._probability += torch.bincount(flat, probabilities, minlength=_BINS).numpy()
            true_bins = bins.gather(1, ids[:, None])[:, 0]  # [N]
            self._came_true += torch.bincount(true_bins, minlength=_BINS).numpy()

    def bins(self) -> list[CalibrationBin]:
        """Returns the bins that contain predictions, lowest probability first."""
        columns = (self._predictions, self._probability, self._came_true)
        return [
            CalibrationBin(int(count), float(total / count), float(hits / count))
            for count, total, hits in zip(*columns, strict=True)
            if count
        ]
