"""An SRU layer whose only operation per time step is one element-wise multiplication and addition.

Shapes: T time, B batch, H hidden.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class SRURecurrence(torch.autograd.Function):
    """The recurrence of cells/sru.py, given the results of its matrix multiplications.

    z denotes the candidate, s the highway input, and d the gradient of the loss:

        dc += dh r                    dc_before = dc f
        dz = dc (1 - f)               df = dc (c_before - z)
        ds = dh (1 - r)               dr = dh (c - s)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, skip: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Runs the layer over time.

        Args:
            ctx: autograd context.
            projected: candidate and the pre-activations of forget and highway gate, [T, B, 3H].
            skip: input of the highway connection, [T, B, H].
            c: initial state, [B, H].

        Returns:
            h of all time steps, [T, B, H], and the last c, both in the type of `c`.
        """
        hidden = c.shape[1]
        projected, s = projected.to(c.dtype), skip.to(c.dtype)
        z, f, r = (part.contiguous() for part in projected.split(hidden, dim=2))
        f, r = f.sigmoid(), r.sigmoid()
        cs = torch.cat([c.unsqueeze(0), z])  # [T + 1, B, H]; z_t is replaced by c_t
        for f_t, c_before, c_t in zip(f.unbind(), cs[:-1].unbind(), cs[1:].unbind(), strict=True):
            c_t.lerp_(c_before, f_t)
        ctx.save_for_backward(z, f, r, s, cs)
        ctx.set_materialize_grads(False)
        return torch.lerp(s, cs[1:], r), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hs: Tensor | None, d_last_c: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the gradient of each argument of `forward`."""
        z, f, r, s, cs = ctx.saved_tensors
        dh = torch.zeros_like(z) if d_hs is None else d_hs
        dc = dh * r
        ds = dh - dc
        if d_last_c is not None:
            dc[-1] += d_last_c
        steps = zip(dc[1:].unbind(), f[1:].unbind(), dc[:-1].unbind(), strict=True)
        for dc_t, f_t, dc_before in reversed(list(steps)):
            dc_before.addcmul_(dc_t, f_t)
        dc_f = dc * f
        d_projected = dc.new_empty(*dc.shape[:2], 3 * dc.shape[2])
        dz, df, dr = d_projected.chunk(3, dim=2)
        torch.sub(dc, dc_f, out=dz)
        # The derivative of a gate g is g (1 - g); dz and ds contain the factor 1 - g.
        torch.sub(cs[:-1], z, out=df).mul_(f).mul_(dz)
        torch.sub(cs[1:], s, out=dr).mul_(r).mul_(ds)
        return d_projected, ds, dc_f[0]
