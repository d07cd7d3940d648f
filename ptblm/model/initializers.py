"""Initializers for the weights of recurrent layers."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

InitializerKind = Literal["uniform", "glorot_uniform", "orthogonal", "pytorch", "lecun_normal"]

# Standard deviation of a standard normal distribution that is truncated at -2 and 2.
_TRUNCATED_STD = 0.87962566103423978


@dataclass(frozen=True)
class Initializer:
    """Fills weight matrices with random values.

    - uniform: uniform in [-scale, scale] (Zaremba et al. 2014, section 4).
    - glorot_uniform: uniform in [-l, l] with l = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio
      2010, equation 16).
    - orthogonal: orthonormal columns (Saxe et al. 2014) for weights that multiply the hidden
      state, glorot_uniform for weights that multiply the input. This is the default of recurrent
      layers in Keras.
    - pytorch: uniform in [-1/sqrt(H), 1/sqrt(H)], with H the units of the layer. This is the
      default of recurrent layers in PyTorch, except that the biases are zero.
    - lecun_normal: normal with variance 1 / fan_in, truncated at two standard deviations (LeCun et
      al. 1998, section 4.6). The variance is that after truncation, as in Keras.

    Attributes:
        kind: name of the distribution.
        scale: bound of the uniform distribution; other initializers ignore it.
    """

    kind: InitializerKind
    scale: float

    def matrix(self, weight: Tensor, generator: torch.Generator) -> None:
        """Fills a single matrix, [outputs, inputs], in place."""
        if self.kind == "orthogonal":
            nn.init.orthogonal_(weight, generator=generator)
        elif self.kind == "lecun_normal":
            _lecun_normal(weight, generator)
        else:
            outputs, inputs = weight.shape
            bound = {
                "uniform": self.scale,
                "glorot_uniform": math.sqrt(6 / (outputs + inputs)),
                "pytorch": 1 / math.sqrt(inputs),
            }[self.kind]
            nn.init.uniform_(weight, -bound, bound, generator)

    def kernel(
        self,
        weight_ih: Tensor,
        weight_hh: Tensor,
        generator: torch.Generator,
        *,
        units: int | None = None,
    ) -> None:
        """Fills the two parts of an affine map in place.

        For glorot_uniform, both parts are treated as one matrix with I + H inputs, as in
        TensorFlow.

        Args:
            weight_ih: weights of the input, [rows, I].
            weight_hh: weights of the hidden state, [rows, H].
            generator: random number generator.
            units: units of the layer, if they are not H, as with a projection.
        """
        rows, input_size = weight_ih.shape
        if self.kind == "orthogonal":
            limit = math.sqrt(6 / (rows + input_size))
            nn.init.uniform_(weight_ih, -limit, limit, generator)
            nn.init.orthogonal_(weight_hh, generator=generator)
            return
        if self.kind == "lecun_normal":
            _lecun_normal(weight_ih, generator)
            _lecun_normal(weight_hh, generator)
            return
        limit = {
            "uniform": self.scale,
            "glorot_uniform": math.sqrt(6 / (rows + input_size + weight_hh.shape[1])),
            "pytorch": 1 / math.sqrt(units or weight_hh.shape[1]),
        }[self.kind]
        nn.init.uniform_(weight_ih, -limit, limit, generator)
        nn.init.uniform_(weight_hh, -limit, limit, generator)


def _lecun_normal(weight: Tensor, generator: torch.Generator) -> None:
    std = math.sqrt(1 / weight.shape[1]) / _TRUNCATED_STD
    nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std, generator)
