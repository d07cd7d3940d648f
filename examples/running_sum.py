"""Trains two cells to compute the running sum of 30 random numbers.

    python examples/running_sum.py

The linear recurrent network h' = w x + u h + b has an exact solution, w = u = 1 and b = 0, and
training finds it. The state of the S-LSTM is limited to values between -1 and 1, so its 32 units
must learn to encode the sum, and the readout must learn to decode it.
"""

import torch
from torch import Tensor, nn

from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer

NUMBERS = 30
BATCH = 32


def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns numbers in [-1, 1] and their running sums, each [NUMBERS, BATCH, 1]."""
    numbers = torch.rand(NUMBERS, BATCH, 1, generator=generator) * 2 - 1
    return numbers, numbers.cumsum(0)


def train(
    layer: RecurrentLayer, readout: nn.Module, steps: int, learning_rate: float
) -> list[float]:
    """Minimizes the mean squared error of the sums; returns the error at each step."""
    generator = torch.Generator().manual_seed(0)
    layer.initialize(Initializer("glorot_uniform", 0.0), generator)
    parameters = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 1 / steps, total_iters=steps - 1)
    errors = []
    for _ in range(steps):
        numbers, sums = draw(generator)
        outputs, _ = layer(numbers, layer.initial_state(BATCH))
        error = (readout(outputs) - sums).square().mean()
        optimizer.zero_grad()
        error.backward()
        nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
        optimizer.step()
        schedule.step()
        errors.append(error.item())
    return errors


def main() -> None:
    """Trains both networks and prints their errors."""
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
