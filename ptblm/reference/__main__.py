"""Trains a character model for one minute and samples: `python -m ptblm.reference TEXT`."""

import sys
import time
from pathlib import Path

import numpy as np

from ptblm.reference.lstm import initial_parameters, loss_and_gradients, zero_state
from ptblm.reference.training import Adam, clip, sample

BATCH_SIZE, TIME_STEPS, HIDDEN_SIZE, NUM_LAYERS, SECONDS = 16, 32, 128, 1, 60


def main() -> None:
    """Trains on a text, prints the loss every few seconds, and prints a sample at the end."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_file():
        sys.exit("usage: python -m ptblm.reference TEXT")
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = np.array([characters.index(character) for character in text])
    length = len(ids) // BATCH_SIZE
    if length <= TIME_STEPS:
        sys.exit(f"the text must have more than {BATCH_SIZE * (TIME_STEPS + 1):,} characters")
    streams = ids[: BATCH_SIZE * length].reshape(BATCH_SIZE, length).T  # [length, B]

    rng = np.random.default_rng(0)
    parameters = initial_parameters(len(characters), HIDDEN_SIZE, NUM_LAYERS, 0.1, rng)
    adam = Adam(parameters, rate=0.003)
    state, position, average = zero_state(parameters, BATCH_SIZE), 0, np.log(len(characters))
    start = reported = time.monotonic()
    while time.monotonic() - start < SECONDS:
        if position + TIME_STEPS >= length:
            state, position = zero_state(parameters, BATCH_SIZE), 0
        window = streams[position : position + TIME_STEPS + 1]
        inputs, targets = window[:-1], window[1:]  # [T, B] each
        cost, gradients, state = loss_and_gradients(parameters, inputs, targets, state)
        clip(gradients, 5.0)
        adam.update(parameters, gradients)
        position += TIME_STEPS
        average = 0.99 * average + 0.01 * cost / TIME_STEPS
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            print(f"step {adam.steps:>6}  {average / np.log(2):.3f} bits per character", flush=True)
    print("".join(characters[i] for i in sample(parameters, int(ids[0]), 300, rng)))


if __name__ == "__main__":
    main()
