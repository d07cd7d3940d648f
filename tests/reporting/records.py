"""Example records."""

import math

from ptblm.evaluation.score import Score
from ptblm.training.records import EpochDone, RunDone, StepDone

# Training perplexity 8 and validation perplexity 4: three and two bits per token.
EPOCH = EpochDone(2, 100, 0.5, 8.0, 4.0, 9.0, 1000.0, best=True)

# The last epoch, with a validation perplexity of 8.
WORSE_EPOCH = EpochDone(3, 150, 0.5, 8.0, 8.0, 9.0, 1000.0, best=False)

# 16 targets of two bits on average, of which four are <eos> at one bit.
TEST = RunDone(100, Score(16 * math.log(4), 16, {"<eos>": Score(4 * math.log(2), 4)}))

STEP = StepDone(
    epoch=2,
    batch=50,
    batches=200,
    step=250,
    learning_rate=0.5,
    nll=10.0,
    tokens=20,
    grad_norm=1.0,
    epoch_nll=4000.0,
    epoch_tokens=1000,
    epoch_seconds=10.0,
)
