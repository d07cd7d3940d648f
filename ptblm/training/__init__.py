"""Training: optimizers, schedule, randomness, one step, the loop over epochs, checkpoints."""
