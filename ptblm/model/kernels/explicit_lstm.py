"""An LSTM layer for CPUs with explicit forward and backward, for what torch's layer lacks.

In mixed precision, matrix multiplications use bf16, and the rest uses fp32. The bf16 layer of torch
is no faster than its fp32 layer. In any precision, the hidden state can have a dropout mask, and
the input gate can be capped. One matrix multiplication computes the input projections of all time
steps, and one computes each weight gradient. Only the recurrent multiplications run once per time
step.

Shapes: T time, B batch, I inputs, H hidden.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class ExplicitLSTM(torch.autograd.Function):
    """The LSTM of cells/lstm.py without peepholes, projection and other activations.

    g denotes the pre-activations of the four gates, m the mask, and d the gradient of the loss:

        dc += dh o (1 - tanh²c)
        dg_i = dc j i(1 - i)    dg_f = dc c_before f(1 - f)
        dg_j = dc i (1 - j²)    dg_o = dh tanh(c) o(1 - o)
        dc_before = dc f        dh_before = m U^T dg

    Where the input gate is capped, i = 1 - f, so dg_i = 0 and dg_f = dc (c_before - j) f(1 - f).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        w: Tensor,
        u: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        cap_input_gate: bool,
        operand: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the layer over time.

        Args:
            ctx: autograd context.
            x: [T, B, I].
            h: initial state, [B, H].
            c: initial state, [B, H].
            w: input weights, [4H, I], with the gates in the order i, f, j, o.
            u: recurrent weights, [4H, H].
            bias: [4H], including the constant forget_bias.
            mask: dropout mask of h where it is multiplied by `u`, [B, H]; None for no dropout.
            cap_input_gate: whether min(i, 1 - f) replaces i.
            operand: type of the operands of matrix multiplications.

        Returns:
            h of all time steps, [T, B, H], in type `operand`; the last h and c, in the type of
            `bias`.
        """
        steps, batch, inputs = x.shape
        hidden = h.shape[1]
        x2, w2, u2 = x.to(operand).view(-1, inputs), w.to(operand), u.to(operand)
        gates = torch.add(torch.mm(x2, w2.t()), bias).view(steps, batch, 4 * hidden)
        hs = torch.empty(steps + 1, batch, hidden, dtype=operand)
        kept = hs[:-1] if mask is None else torch.empty_like(hs[:-1])  # h after dropout
        cs = gates.new_empty(steps + 1, batch, hidden)
        tanh_c = gates.new_empty(steps, batch, hidden)
        hs[0], cs[0] = h, c
        times_u = _repeated_matmul(u2, batch)
        i_f, _ = gates.chunk(2, dim=2)
        # Creating all views at once saves 10% of the time of a small layer.
        views = (gates, i_f, *gates.chunk(4, dim=2), hs[:-1], kept, hs[1:], cs[:-1], cs[1:], tanh_c)
        for g, i_and_f, i, f, j, o, h, h_kept, h_next, c, c_next, tanh in zip(
            *(view.unbind() for view in views), strict=True
        ):
            if mask is not None:
                torch.mul(h, mask, out=h_kept)
            g += times_u(h_kept)
            i_and_f.sigmoid_()
            if cap_input_gate:
                torch.minimum(i, 1 - f, out=i)
            j.tanh_()
            o.sigmoid_()
            torch.mul(f, c, out=c_next).addcmul_(i, j)
            torch.mul(o, torch.tanh(c_next, out=tanh), out=h_next)
        ctx.save_for_backward(x2, w2, u2, gates, kept, cs, tanh_c, mask)
        ctx.x_dtype, ctx.cap_input_gate = x.dtype, cap_input_gate
        ctx.set_materialize_grads(False)
        return hs[1:], hs[-1].to(cs.dtype), cs[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_hs: Tensor | None, d_last_h: Tensor | None, d_last_c: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Returns the gradient of each argument of `forward`."""
        x2, w2, u2, gates, kept, cs, tanh_c, mask = ctx.saved_tensors
        steps, batch, hidden = tanh_c.shape
        i, f, j, o = gates.chunk(4, dim=2)
        # Values that do not depend on dh or dc are computed for all time steps at once.
        dh_to_dc = torch.addcmul(o, o * tanh_c, tanh_c, value=-1)
        to_gates = gates.new_empty(steps, batch, 4, hidden)
        i_j, f_c, o_c = i * j, f * cs[:-1], o * tanh_c
        torch.addcmul(i_j, i_j, i, value=-1, out=to_gates[:, :, 0])
        if ctx.cap_input_gate:
            is_capped = i == 1 - f
            to_gates[:, :, 0].masked_fill_(is_capped, 0)
            f_c.addcmul_(f * j, is_capped.to(f.dtype), value=-1)
        torch.addcmul(f_c, f_c, f, value=-1, out=to_gates[:, :, 1])
        torch.addcmul(i, i_j, j, value=-1, out=to_gates[:, :, 2])
        torch.addcmul(o_c, o_c, o, value=-1, out=to_gates[:, :, 3])
        d_outputs = torch.zeros_like(tanh_c) if d_hs is None else d_hs.to(cs.dtype)
        d_gates = torch.empty(steps, batch, 4 * hidden, dtype=w2.dtype)
        times_u_t = _repeated_matmul(u2.t(), batch)
        dh = d_outputs[-1] if d_last_h is None else d_outputs[-1] + d_last_h
        dc = torch.zeros_like(cs[0]) if d_last_c is None else d_last_c.clone()
        before = torch.cat([torch.zeros_like(d_outputs[:1]), d_outputs[:-1]])
        to_ifj, to_o = to_gates[:, :, :3], to_gates[:, :, 3]
        views = (d_gates, to_gates.flatten(2), to_ifj, to_o, dh_to_dc, f, before)
        for dg, to_g, to_ifj, to_o, to_dc, f_t, d_output in zip(
            *(reversed(view.unbind()) for view in views), strict=True
        ):
            dc.addcmul_(dh, to_dc)
            to_ifj *= dc.unsqueeze(1)
            to_o *= dh
            dg.copy_(to_g)
            dc *= f_t
            dh = times_u_t(dg)
            dh = dh + d_output if mask is None else torch.addcmul(d_output, dh, mask)
        d = d_gates.view(steps * batch, -1)
        dx = torch.mm(d, w2).view(steps, batch, -1).to(ctx.x_dtype)
        dw, du = torch.mm(d.t(), x2), torch.mm(d.t(), kept.view(-1, hidden))
        d_weights = (part.to(cs.dtype) for part in (dw, du, d.sum(0)))
        return dx, dh, dc, *d_weights, None, None, None


def _repeated_matmul(weight: Tensor, rows: int) -> Callable[[Tensor], Tensor]:
    """Returns a function that multiplies [rows, K] by the transpose of `weight`, [N, K].

    oneDNN reorders the weight in every multiplication. If torch supports it, reordering the weight
    once saves 10% of the time of a layer with 1,500 units and has no effect with 650 units.
    """
    if weight.dtype == torch.bfloat16 and _can_reorder():
        mkldnn = torch.ops.mkldnn
        reordered = mkldnn._reorder_linear_weight(weight.contiguous(), rows)
        return lambda x: mkldnn._linear_pointwise(x, reordered, None, "none", [], "")
    return lambda x: torch.mm(x, weight.t())


@cache
def _can_reorder() -> bool:
    """Returns whether torch supports reordered weights on this processor."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(1, 1, dtype=torch.bfloat16), 1)
    except (AttributeError, RuntimeError):
        return False
    return True
