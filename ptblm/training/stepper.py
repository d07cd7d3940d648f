"""Makes a run's steps: one after the other, or whole blocks of them that the device goes through.

Shapes: B batch, T time.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ptblm.backend.precision import Precision
from ptblm.backend.randomness import seed_global_generator
from ptblm.config.training import TrainingConfig
from ptblm.model.kernels.fused import uses_bf16
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import State
from ptblm.training.cuda_graph import Capture, GraphedStep
from ptblm.training.gradients import fast_backward, plain_backward
from ptblm.training.optimizer import Optimizer
from ptblm.training.step import train_step

# To read a step's figures is to wait for the device, and then to have it wait for the host. So
# they are read of so many captured steps at once.
_STEPS_BETWEEN_READS = 25


@dataclass(frozen=True)
class StepInputs:
    """What one step is made from, besides the state.

    Attributes:
        inputs: ids, [B, T].
        targets: the ids that follow them, [B, T].
        learning_rate: of the update.
        seed: of the dropout masks.
    """

    inputs: Tensor
    targets: Tensor
    learning_rate: float
    seed: int


# Of each step made: the loss summed over its tokens, in nats, and the gradient's global norm
# before clipping, None where fp16 overflowed and no update was made.
StepFigures = list[tuple[float, float | None]]


class Stepper:
    """Updates a model, by captured steps where they could be captured.

    Args:
        model: the model.
        optimizer: of its trainable parameters.
        precision: the run's precision.
        config: the optimization.

    Attributes:
        path: how steps are made, in words.
    """

    def __init__(
        self,
        model: LanguageModel,
        optimizer: Optimizer,
        precision: Precision,
        config: TrainingConfig,
        *,
        fused: bool = True,
    ) -> None:
        self.model, self.optimizer, self.precision = model, optimizer, precision
        self.config, self.fused = config, fused
        self.backward = fast_backward if fused else plain_backward
        self.generator = torch.Generator(precision.device)
        self.captured: GraphedStep | None = None
        self.path = model.recurrent.path
        narrow = all(uses_bf16(layer.cell) for layer in model.recurrent.layers)
        if self.path == "fused" and precision.operands and precision.device.type == "cpu":
            self.path += f" in {precision.name if narrow else 'fp32'}"

    def capture(self, inputs: Tensor, targets: Tensor, state: State, capture: Capture) -> None:
        """Has steps captured from now on; where that fails, they are made eagerly as before.

        Args:
            inputs: ids of some batch, [B, T].
            targets: the ids that follow them, [B, T].
            state: a start state.
            capture: makes the graph.

        Raises:
            torch.OutOfMemoryError: if a step does not fit into the device.
        """
        # The loss scale of fp16 is the host's, which must see a norm before it lets an update be.
        if not self.fused or self.precision.scaler is not None:
            return
        try:
            self.captured = GraphedStep(
                self.backward,
                self.model,
                self.optimizer.parameters,
                self.precision,
                inputs,
                targets,
                state,
                self.config.max_grad_norm,
                capture,
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a user's own cell may do anything
            self.path += f" (not captured: {type(error).__name__})"
        else:
            self.path += ", one captured graph"

    def make_steps(self, steps: Iterable[StepInputs], state: State) -> tuple[StepFigures, State]:
        """Makes all of some steps if they are captured, else the first of them.

        Args:
            steps: what may be made before figures are read; taken one by one.
            state: before the first of them.

        Returns:
            The figures of each step made, and the state after them. With a captured step, the
            next call overwrites that state.

        Raises:
            NotFiniteError: if loss or gradient of an eager step is not finite; the weights are as
                before. A captured step says so by its figures, its update made.
        """
        # A learned start state wants its gradient, which is none of a captured step's.
        learned = any(part.requires_grad for layer in state for part in layer)
        if self.captured is None or learned:
            return self._make_step(next(iter(steps)), state)
        seen = []
        for step in steps:
            outputs = self.captured(step.inputs, step.targets, state, step.seed)
            self.optimizer.step(step.learning_rate, outputs.clip)
            seen.append(outputs.figures.clone())
            state = self.captured.state
        return [(nll, norm) for nll, norm in torch.stack(seen).tolist()], state

    def _make_step(self, step: StepInputs, state: State) -> tuple[StepFigures, State]:
        self.generator.manual_seed(step.seed)
        seed_global_generator(self.precision.device, step.seed)
        result = train_step(
            self.backward,
            self.model,
            self.optimizer,
            self.precision,
            step.inputs,
            step.targets,
            state,
            learning_rate=step.learning_rate,
            max_grad_norm=self.config.max_grad_norm,
            generator=self.generator,
        )
        return [(result.nll, result.grad_norm)], result.state


def steps_until_sync(step: int, batches_left: int, log_every: int) -> int:
    """How many captured steps go by until their figures are read.

    They are read at fixed places, so that a run that was stopped has the same records as one that
    was not: where a record is logged, at an epoch's end, and often enough for a progress bar.

    Args:
        step: updates since the run began.
        batches_left: of the epoch.
        log_every: steps between two records that are logged.
    """
    return min(
        _STEPS_BETWEEN_READS - step % _STEPS_BETWEEN_READS,
        log_every - step % log_every,
        batches_left,
    )
