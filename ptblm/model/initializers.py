"""Initializers for the weights of recurrent layers."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

InitializerKind = Literal["uniform", "glorot_uniform", "orthogonal"]


@dataclass(frozen=True)
class Initializer:
    """Fills weight matrices with random values.

    - uniform: uniform in [-scale, scale] (Zaremba et al. 2014, section 4).
    - glorot_uniform: uniform in [-l, l] with l = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio
      2010, equation 16).
    - orthogonal: orthonormal columns (Saxe et al. 2014) for weights that multiply the hidden
      state, glorot_uniform for weights that multiply the input. This is the default of recurrent
      layers in Keras.

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
            return
        limit = math.sqrt(6 / sum(weight.shape)) if self.kind == "glorot_uniform" else self.scale
        nn.init.uniform_(weight, -limit, limit, generator)

    def kernel(self, weight_ih: Tensor, weight_hh: Tensor, generator: torch.Generator) -> None:
        """Fills the two parts of an affine map in place.

        For glorot_uniform, both parts are treated as one matrix with I + H inputs, as in
        TensorFlow.

        Args:
            weight_ih: weights of the input, [rows, I].
            weight_hh: weights of the hidden state, [rows, H].
            generator: random number generator.
        """
        rows, input_size = weight_ih.shape
        if self.kind == "orthogonal":
            limit = math.sqrt(6 / (rows + input_size))
            nn.init.uniform_(weight_ih, -limit, limit, generator)
            nn.init.orthogonal_(weight_hh, generator=generator)
            return
        glorot = math.sqrt(6 / (rows + input_size + weight_hh.shape[1]))
        limit = glorot if self.kind == "glorot_uniform" else self.scale
        nn.init.uniform_(weight_ih, -limit, limit, generator)
        nn.init.uniform_(weight_hh, -limit, limit, generator)
