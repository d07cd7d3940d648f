"""Two cells learn to add up: given 30 random numbers, say after each the sum so far.

    python examples/running_sum.py

The linear recurrent network h' = w x + u h + b can do it exactly, with w = u = 1 and b = 0, and
one sees its three weights go there. The S-LSTM, whose state lies between -1 and 1, has to find a
code for the sum in its 32 units, and a readout that decodes it.
"""

import torch
from torch import Tensor, nn

from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.training.clipping import clip_coefficient, global_norm
from ptblm.training.optimizer import Adam

NUMBERS = 30
BATCH = 32


def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers in [-1, 1] and their running sums, each [NUMBERS, BATCH, 1]."""
    numbers = torch.rand(NUMBERS, BATCH, 1, generator=generator) * 2 - 1
    return numbers, numbers.cumsum(0)


def train(
    layer: RecurrentLayer, readout: nn.Module, steps: int, learning_rate: float
) -> list[float]:
    """Minimises the squared error of the sums; returns its mean at each step."""
    generator = torch.Generator().manual_seed(0)
    layer.initialize(Initializer("glorot_uniform", 0.0), generator)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = Adam(parameters, beta1=0.9, beta2=0.999, epsilon=1e-8)
    errors = []
    for step in range(steps):
        numbers, sums = draw(generator)
        outputs, _ = layer(numbers, layer.initial_state(BATCH))
        error = (readout(outputs) - sums).square().mean()
        for parameter in parameters:
            parameter.grad = None
        torch.autograd.backward(error)
        clip = clip_coefficient(float(global_norm(parameters)), max_norm=1.0)
        optimizer.step(learning_rate * (1 - step / steps), clip)  # ever smaller: it comes to rest
        errors.append(error.item())
    return errors


def main() -> None:
    """Trains both, and prints what became of them."""
    torch.manual_seed(0)
    linear = RecurrentLayer(RNNCell(1, 1, activation="linear"))
    errors = train(linear, nn.Identity(), steps=400, learning_rate=0.02)
    w, u, b = (parameter.item() for parameter in linear.cell.parameters())
    print(f"linear RNN   squared error {errors[0]:8.4f} -> {errors[-1]:.1e}")
    print(f"             w = {w:.4f}, u = {u:.4f}, b = {b:.4f}; exact: 1, 1, 0")

    slstm = RecurrentLayer(SLSTMCell(1, 32))
    errors = train(slstm, nn.Linear(32, 1), steps=600, learning_rate=0.02)
    last = sum(errors[-20:]) / 20
    print(f"S-LSTM       squared error {errors[0]:8.4f} -> {last:.4f}")


if __name__ == "__main__":
    main()
