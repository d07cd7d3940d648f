"""Token embedding with sparse gradients.

Shapes: V vocabulary, E embedding.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# The checks are off by default, but torch prints a warning unless that is chosen explicitly.
torch.sparse.check_sparse_tensor_invariants.disable()


class Embedding(nn.Embedding):
    """A table of token vectors, [V, E].

    If `sparse` is True, the gradient is a sparse tensor with one row for each distinct token in the
    batch. A training step on the Penn Treebank contains about 400 of 10,000 tokens. A dense
    gradient would take 2% of a step with the small config and 60 MB with the large config. Unlike
    in `nn.Embedding`, the gradient is coalesced, so its norm is the norm of its values.

    Args:
        vocab_size: V.
        embedding_size: E.

    Attributes:
        gather: if several processes train the model, returns the rows of the global batch, given
            those of this process, [T, b] or [T, b, E]. The gradient is then that of the global
            batch. None if the gradient is that of the ids of this process.
    """

    gather: Callable[[Tensor], Tensor] | None = None

    def __init__(self, vocab_size: int, embedding_size: int) -> None:
        # `initialize` fills the table. nn.Embedding would use the global generator.
        table = nn.Parameter(torch.empty(vocab_size, embedding_size))
        super().__init__(vocab_size, embedding_size, _weight=table)

    def initialize(self, scale: float, generator: torch.Generator) -> None:
        """Initializes the table uniformly in [-scale, scale]."""
        nn.init.uniform_(self.weight, -scale, scale, generator)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns the vectors of `ids`, [..., E]."""
        if (self.sparse or self.gather) and torch.is_grad_enabled():
            vectors: Tensor = _Lookup.apply(  # type: ignore[no-untyped-call]
                ids, self.weight, self.gather, self.sparse
            )
            return vectors
        return nn.functional.embedding(ids, self.weight)


class _Lookup(torch.autograd.Function):
    """Embedding lookup whose gradient is gathered, a coalesced sparse tensor, or both."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        weight: Tensor,
        gather: Callable[[Tensor], Tensor] | None,
        is_sparse: bool,
    ) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.shape, ctx.gather, ctx.is_sparse = weight.shape, gather, is_sparse
        return nn.functional.embedding(ids, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_vectors: Tensor) -> tuple[None, Tensor, None, None]:
        (ids,) = ctx.saved_tensors
        if ctx.gather is not None:
            ids, d_vectors = ctx.gather(ids), ctx.gather(d_vectors)
        indices, rows = ids.reshape(-1).long(), d_vectors.reshape(-1, ctx.shape[1])
        if ctx.is_sparse:
            gradient = torch.sparse_coo_tensor(indices[None], rows, ctx.shape).coalesce()
        else:
            # On CUDA, `index_add_` rounds differently in each process.
            gradient = torch.ops.aten.embedding_dense_backward(
                rows, indices, ctx.shape[0], -1, False
            )
        return None, gradient, None, None
