"""Terms of the training loss besides the cross-entropy: AR and TAR.

Shapes: T time, B batch, H units.
"""

from torch import Tensor

from ptblm.config.training import TrainingConfig
from ptblm.model.language_model import LossTerm


def regularizers(config: TrainingConfig) -> list[LossTerm]:
    """Returns the terms that the config selects.

    The loss of a step is the sum over T of the mean over B. The program of Merity et al. 2018 takes
    the mean over both, so its values are those of ptblm: all terms are T times as large.
    """
    ar, tar = config.activation_regularization, config.temporal_activation_regularization
    terms: list[LossTerm] = []
    if ar:
        terms.append(lambda output: ar * _summed_squares(output.features))
    if tar:
        terms.append(lambda output: tar * _summed_squares(output.undropped.diff(dim=0)))
    return terms


def _summed_squares(x: Tensor) -> Tensor:
    """Returns the sum over T and B of the mean square over H, for [T, B, H]."""
    x = x.float() if x.itemsize < 4 else x
    return x.square().mean(dim=-1).sum()
