"""The softmax over the vocabulary, with its loss.

Shapes: N positions, H hidden, V vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

# Numbers in the logits that exist at a time, 32 MB in fp32, however large the vocabulary. Fewer
# make the weight's gradient take more turns: halved, 2 % slower at medium.
_NUMBERS_PER_CHUNK = 2**23


class Softmax(nn.Module):
    """Turns hidden vectors into the negative log-likelihood of target words.

    Args:
        hidden_size: H.
        vocab_size: V.
    """

    def __init__(self, hidden_size: int, vocab_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))
        self.bias = nn.Parameter(torch.empty(vocab_size))

    def initialize(self, scale: float, generator: torch.Generator) -> None:
        """Weight and bias uniform in [-scale, scale]."""
        nn.init.uniform_(self.weight, -scale, scale, generator)
        nn.init.uniform_(self.bias, -scale, scale, generator)

    def logits(self, hidden: Tensor) -> Tensor:
        """Unnormalised log-probabilities, [N, V], of hidden vectors, [N, H]."""
        return functional.linear(hidden, self.weight, self.bias)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p(target) in nats, [N], for hidden vectors [N, H] and target ids [N].

        Logits of a reduced precision are widened first: a sum over V terms wants fp32.
        """
        logits = self.logits(hidden)
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return functional.cross_entropy(wide, targets, reduction="none")

    @torch.no_grad()
    def nll_and_gradients(
        self, hidden: Tensor, targets: Tensor, weight: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """`nll`, and at once the gradients of its sum times `weight`.

        That -log p has the gradient p - onehot(target) for the logits is all that is needed to
        turn these into it where they lie: three products and one pass, no copy of [N, V] for
        autograd. At small this takes 85 % of autograd's time in fp32, and by chunks of positions
        the logits take no more memory for a larger vocabulary (docs/performance.md).

        Args:
            hidden: [N, H].
            targets: ids, [N].
            weight: of each position in the cost.
            dtype: of the products' operands.

        Returns:
            -log p(target) in nats, [N], on a CPU of a p rounded to `dtype`, and the cost's
            gradient for `hidden`, [N, H], in `dtype`. The gradients for weight and bias are put
            into their `.grad`.
        """
        kernel, operand = self.weight.to(dtype), hidden.to(dtype)
        bias = self.bias.to(dtype)
        positions, vocab_size = len(hidden), len(kernel)
        # Chunks as even as can be.
        chunks = -(-positions * vocab_size // _NUMBERS_PER_CHUNK)
        rows = -(-positions // min(chunks, positions))
        nll = torch.empty(positions, dtype=self.weight.dtype, device=hidden.device)
        # One pass less, if one may look at the result; on a GPU that would wait for it.
        on_cpu = hidden.device.type == "cpu"
        hidden_gradient = torch.empty_like(operand)
        bias_gradient = torch.zeros_like(self.bias)
        row = torch.arange(rows, device=hidden.device)
        for start in range(0, positions, rows):
            part = slice(start, start + rows)
            chunk, target = operand[part], targets[part]
            at_target = row[: len(chunk)], target
            logits = torch.mm(chunk, kernel.t()).add_(bias)
            if not on_cpu:
                nll[part] = functional.cross_entropy(logits.to(nll.dtype), target, reduction="none")
            p = _softmax_in_place(logits)
            if on_cpu:
                chosen = p[at_target].to(nll.dtype)
                nll[part] = -chosen.log()
                if not chosen.all():  # too small for its type: then the long way
                    lost = chosen == 0
                    nll[part][lost] = self.nll(hidden[part][lost].to(nll.dtype), target[lost])
            p[at_target] -= 1
            p = p.mul_(weight).to(dtype)
            torch.mm(p, kernel, out=hidden_gradient[part])
            if start == 0:
                kernel_gradient = torch.mm(p.t(), chunk).to(self.weight.dtype)
            elif dtype == self.weight.dtype:
                kernel_gradient.addmm_(p.t(), chunk)
            else:  # summed in fp32: bf16 has too few digits for it
                kernel_gradient += torch.mm(p.t(), chunk)
            # A frequent word's sum may be too large for fp16; a CPU has none, and sums in fp32.
            bias_gradient += p.sum(0) if on_cpu else p.sum(0, dtype=self.bias.dtype)
        self.weight.grad = kernel_gradient
        self.bias.grad = bias_gradient
        return nll, hidden_gradient


def _softmax_in_place(logits: Tensor) -> Tensor:
    """Softmax over the last dimension, which uses up its argument; fp16's range is too small."""
    if logits.dtype == torch.float16:
        return torch.softmax(logits, -1, dtype=torch.float32)
    return torch.softmax(logits, -1, out=logits)
