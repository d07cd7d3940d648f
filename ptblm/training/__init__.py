"""Training: optimizers, learning-rate schedules, the training step and the training loop."""
