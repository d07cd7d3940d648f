"""How the recurrent layers' weights start."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["uniform", "glorot_uniform", "orthogonal"]


@dataclass(frozen=True)
class Initializer:
    """Fills weights.

    uniform: in [-scale, scale] (Zaremba et al. 2014).
    glorot_uniform: in [-l, l], l = sqrt(6 / (fan in + fan out)) (Glorot & Bengio 2010, eq. 16).
    orthogonal: orthonormal columns (Saxe et al. 2014) for what multiplies the state, and
        glorot_uniform for what multiplies the inputs, as Keras's recurrent layers start.

    Attributes:
        kind: one of the three.
        scale: of uniform.
    """

    kind: Kind
    scale: float

    def matrix(self, weight: Tensor, generator: torch.Generator) -> None:
        """Fills a matrix of [outputs, inputs] that stands alone."""
        if self.kind == "orthogonal":
            nn.init.orthogonal_(weight, generator=generator)
            return
        limit = math.sqrt(6 / sum(weight.shape)) if self.kind == "glorot_uniform" else self.scale
        nn.init.uniform_(weight, -limit, limit, generator)

    def kernel(self, weight_ih: Tensor, weight_hh: Tensor, generator: torch.Generator) -> None:
        """Fills the two parts of a kernel, [rows, I] for the inputs and [rows, H] for the state.

        For glorot_uniform they count as one matrix of I + H inputs, as TensorFlow's cells have.
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
