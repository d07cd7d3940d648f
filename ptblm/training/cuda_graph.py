"""Runs training steps as CUDA graphs.

A step consists of hundreds of small kernels. Launching them on the host takes longer than running
them on the device. Therefore forward, backward and gradient norm are captured once and launched
together. The update runs eagerly, so any optimizer and schedule works. The host never waits for the
device inside a step.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ptblm.backend.randomness import seed_generators
from ptblm.errors import LostProcessError
from ptblm.model.layers.recurrent import HiddenState
from ptblm.training.clipping import clip_coefficient_on_device
from ptblm.training.step import Batch, StepOutput, StepParts, forward_backward

logger = logging.getLogger(__name__)

# Reading metrics synchronizes host and device. Therefore the metrics of up to this many graphed
# steps are read together.
_STEPS_PER_SYNC = 25

# Maximum relative difference between a replay and the eager step. It is much larger than the
# rounding of nondeterministic kernels and much smaller than the effect of a different dropout mask.
_MAX_DIFFERENCE = 1e-2


class CapturedTensors(NamedTuple):
    """Results of a replay. On CUDA, they are always in the same memory.

    Attributes:
        metrics: see `StepOutput`, [2].
        gradients: the gradient of each parameter; None if the loss does not depend on it.
    """

    metrics: Tensor
    gradients: list[Tensor | None]


Body = Callable[[], CapturedTensors]
# Captures a function that uses a generator. Returns the tensors that contain its results and a
# function that replays it.
Capture = Callable[[Body, torch.Generator], tuple[CapturedTensors, Callable[[], None]]]


class ReplayMismatchError(RuntimeError):
    """A captured step and the eager step compute different results."""


class GraphedStep:
    """A replacement for `train_step` that captures `forward_backward` once and replays it.

    Args:
        parts: what the step consists of. The weights may change but must not move in memory. There
            must be no loss scaler. The generator cannot be used after a failed capture. The
            processes capture and replay together.
        batch: any batch of the run.
        hidden_state: an initial hidden state.
        capture: captures the graph.

    Raises:
        Exception: of any type, if the step cannot be captured, for example because it waits for
            the device. Eager steps still work.
        ReplayMismatchError: if the captured step differs from the eager step. For example, a
            custom cell that draws random numbers on the host repeats them in every replay.
    """

    def __init__(
        self, parts: StepParts, batch: Batch, hidden_state: HiddenState, capture: Capture
    ) -> None:
        self._parts = parts
        self._batch = batch._replace(
            inputs=batch.inputs.clone().long(), targets=batch.targets.clone().long()
        )
        self._hidden_state: HiddenState = _copy(hidden_state)
        try:
            self._captured, self._replay = capture(self._body, parts.generator)
            for seed in (1, 2):
                self._check_replay(seed)
        finally:
            parts.model.zero_grad(set_to_none=True)

    def __call__(
        self, batch: Batch, hidden_state: HiddenState, *, learning_rate: float, seed: int
    ) -> StepOutput:
        """Performs one update without waiting for the device; see `train_step` for arguments.

        The update is performed even if the loss or the gradient is not finite; the caller must
        check `metrics`. The next call overwrites the returned hidden state.
        """
        self._batch.inputs.copy_(batch.inputs)
        self._batch.targets.copy_(batch.targets)
        if hidden_state is not self._hidden_state:
            self._set_hidden_state(hidden_state)
        metrics = self._run(seed).metrics
        clip = clip_coefficient_on_device(metrics[1], self._parts.max_grad_norm)
        self._parts.optimizer.step(learning_rate, clip)
        return StepOutput(metrics.clone(), self._hidden_state)

    def _run(self, seed: int) -> CapturedTensors:
        seed_generators(self._parts.generator, seed)
        self._replay()
        # An eager step may have replaced the gradients.
        pairs = zip(self._parts.model.parameters(), self._captured.gradients, strict=True)
        for parameter, gradient in pairs:
            parameter.grad = gradient
        return self._captured

    def _body(self) -> CapturedTensors:
        """Runs the step on the buffers and stores the new hidden state in them."""
        parts = self._parts
        args = parts.generator, parts.precision, parts.world
        output = forward_backward(parts.model, self._batch, self._hidden_state, *args)
        self._set_hidden_state(output.hidden_state)
        return CapturedTensors(output.metrics, [p.grad for p in parts.model.parameters()])

    def _set_hidden_state(self, hidden_state: HiddenState) -> None:
        """Copies a hidden state, which may share memory with the buffers, into the buffers."""
        parts = [part.detach() for layer in hidden_state for part in layer]
        buffers = [buffer for layer in self._hidden_state for buffer in layer]
        shared = {buffer.untyped_storage().data_ptr() for buffer in buffers}
        parts = [p.clone() if p.untyped_storage().data_ptr() in shared else p for p in parts]
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part)

    def _check_replay(self, seed: int) -> None:
        """Compares an eager step with a replay from the same hidden state."""
        before = _copy(self._hidden_state)
        seed_generators(self._parts.generator, seed)
        expected = _tensors(self._body(), _copy(self._hidden_state))
        self._set_hidden_state(before)
        found = _tensors(self._run(seed), self._hidden_state)
        if not all(map(_agree, found, expected)):
            raise ReplayMismatchError("the captured step and the eager step differ")


def _copy(hidden_state: HiddenState) -> HiddenState:
    return tuple(tuple(part.detach().clone() for part in layer) for layer in hidden_state)


def _tensors(
    captured: CapturedTensors, hidden_state: HiddenState
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Returns the metrics, gradients and hidden state of a step."""
    gradients = [gradient for gradient in captured.gradients if gradient is not None]
    return [captured.metrics], gradients, [part for layer in hidden_state for part in layer]


def _agree(found: list[Tensor], expected: list[Tensor]) -> bool:
    """Returns whether two lists of tensors, each taken as one vector, are equal up to rounding."""
    if len(found) != len(expected):
        return False
    difference = math.hypot(
        *(torch.linalg.vector_norm(f - e).item() for f, e in zip(found, expected, strict=True))
    )
    norm = math.hypot(*(torch.linalg.vector_norm(e).item() for e in expected))
    return difference <= _MAX_DIFFERENCE * norm


def capture_on_cuda(
    body: Body, generator: torch.Generator
) -> tuple[CapturedTensors, Callable[[], None]]:
    """Captures `body` as a CUDA graph. Implements `Capture`.

    Raises:
        Exception: of any type, if `body` cannot be captured.
    """
    device = generator.device
    with torch.cuda.device(device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        try:
            # The outer block also restores the current stream after a failed capture.
            with torch.cuda.stream(side):
                body()  # libraries create their handles; compilers compile
                # A failed capture leaves the generators and the allocator of torch in an undefined
                # state. Most code that cannot be captured waits for the device and fails here.
                with forbid_host_sync():
                    body()
                graph = torch.cuda.CUDAGraph()
                graph.register_generator_state(generator)
                with torch.cuda.graph(graph, stream=side):
                    captured = body()
        except Exception:
            torch.cuda.synchronize()
            # In some torch versions the default generator still counts as captured.
            default = torch.cuda.default_generators[torch.cuda.current_device()]
            default.graphsafe_set_state(torch.Generator(device))
            raise
        torch.cuda.current_stream().wait_stream(side)
    return captured, graph.replay


def capture_step(
    parts: StepParts, batch: Batch, hidden_state: HiddenState, capture: Capture
) -> GraphedStep | None:
    """Captures a step; returns None if that fails in any process, so that all use eager steps.

    See `GraphedStep` for the arguments.

    Raises:
        torch.OutOfMemoryError: if the step does not fit into the memory of the device.
    """
    if parts.precision.scaler is not None:  # the scaler decides on the host whether to update
        return None
    step = None
    try:
        step = GraphedStep(parts, batch, hidden_state, capture)
    except (torch.OutOfMemoryError, LostProcessError):
        raise
    except Exception as error:  # a custom cell can raise any exception
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        logger.warning(f"a step cannot be captured as a CUDA graph ({reason})")
    (failed,) = parts.world.agree(step is None)
    return None if failed else step


@contextmanager
def forbid_host_sync() -> Iterator[None]:
    """Raises RuntimeError for every operation in the block that waits for a CUDA device."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def steps_until_sync(
    step: int, batches_left: int, log_every: int, sync_at: Sequence[int] = ()
) -> int:
    """Returns the number of graphed steps before the next metrics are read.

    Metrics are read at fixed steps, so that a resumed run has the same records as an uninterrupted
    run: at logged steps, at the end of an epoch, every `_STEPS_PER_SYNC` steps, and on request.

    Args:
        step: updates since the start of the run.
        batches_left: batches left in the epoch.
        log_every: steps between two logged records.
        sync_at: other steps after which metrics are read.
    """
    until_fixed = [interval - step % interval for interval in (_STEPS_PER_SYNC, log_every)]
    return min(*until_fixed, batches_left, *(other - step for other in sync_at if other > step))
