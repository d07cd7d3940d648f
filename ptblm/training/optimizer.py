"""The update: plain stochastic gradient descent.

torch.optim's optimizers would do the same, but the first of them that is made imports torch's
compiler, which takes as long as importing torch itself (1.2 s measured) and needs a place for
temporary files, which a full disk has not.
"""

from collections.abc import Sequence

import torch
from torch import nn


class SGD:
    """w <- w - rate * gradient (ptb_word_lm.py's GradientDescentOptimizer).

    Args:
        parameters: what is updated.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)

    def zero_grad(self) -> None:
        """Forgets all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Makes one update."""
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-learning_rate)

    def state_dict(self) -> dict[str, object]:
        """What must be saved: nothing."""
        return {}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Restores what `state_dict` gave."""
