"""One step of training as a CUDA graph, which the device goes through without the host.

A step of these models is hundreds of small kernels, and to launch them takes the host longer than
to run them takes the device. Captured once, forward, backward and norm are one launch; the update
follows eagerly, so that any optimizer and schedule works. Nothing in it waits for the device.

Shapes: B batch, T time.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ptblm.backend.precision import Precision
from ptblm.backend.randomness import seed_global_generator
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import State
from ptblm.training.clipping import clip_coefficient_on_device, global_norm
from ptblm.training.gradients import Backward

# The largest distance of a replay's numbers from the eager step's, relative to their norm: far
# more than kernels that do not repeat themselves bit for bit explain, far less than another
# dropout mask makes.
_LARGEST_DIFFERENCE = 1e-2


class Outputs(NamedTuple):
    """What a step has computed; on CUDA always in the same place.

    Attributes:
        figures: loss summed over the tokens, in nats, and global norm before clipping, [2].
        clip: what the gradients are to be multiplied by, float64, no dimensions.
        gradients: of each parameter; None where the cost does not depend on it.
    """

    figures: Tensor
    clip: Tensor
    gradients: list[Tensor | None]


Body = Callable[[], Outputs]
# Takes what is to be captured, and the generator that it draws from. Returns where the outputs
# will be, and what computes them.
Capture = Callable[[Body, torch.Generator], tuple[Outputs, Callable[[], None]]]


class ReplayDiffersError(RuntimeError):
    """A captured step does not compute what it is to compute."""


class GraphedStep:
    """Forward, backward and norm of a step, captured once and replayed for any batch.

    Args:
        backward: gives the gradients.
        model: the model; its weights must stay where they are, and may change.
        parameters: whose gradients are wanted.
        precision: the run's precision.
        inputs: ids of some batch, [B, T].
        targets: the ids that follow them, [B, T].
        state: a start state.
        max_grad_norm: the gradient is clipped to this norm.
        capture: makes the graph.

    Attributes:
        state: where the last replay ended. The next one overwrites it.

    Raises:
        Exception: of any kind, if the step can't be captured: it waits for the device, say. The
            step can be made eagerly then.
        ReplayDiffersError: if the captured step computes something else than the eager one. What
            a cell of the user's own decides or draws on the host would be the same forever.
    """

    def __init__(
        self,
        backward: Backward,
        model: LanguageModel,
        parameters: Sequence[nn.Parameter],
        precision: Precision,
        inputs: Tensor,
        targets: Tensor,
        state: State,
        max_grad_norm: float,
        capture: Capture,
    ) -> None:
        self._backward, self._model, self._arithmetic = backward, model, precision
        self._parameters = parameters
        self._max_grad_norm = max_grad_norm
        # Its own: of a generator that a capture failed with, nobody can draw any more.
        self._generator = torch.Generator(precision.device)
        self._inputs, self._targets = inputs.clone().long(), targets.clone().long()
        self.state: State = tuple(tuple(part.detach().clone() for part in s) for s in state)
        try:
            self._outputs, self._replay = capture(self._body, self._generator)
            for seed in (1, 2):
                self._refuse_difference(seed)
        finally:
            for parameter in parameters:
                parameter.grad = None

    def __call__(self, inputs: Tensor, targets: Tensor, state: State, seed: int) -> Outputs:
        """Computes a step's gradients, and puts them into the parameters' `.grad`.

        Args:
            inputs: ids, [B, T].
            targets: the ids that follow them, [B, T].
            state: to start from; `self.state` costs nothing.
            seed: of all that is drawn at random.

        Returns:
            What the next call overwrites; nothing has been waited for.
        """
        self._inputs.copy_(inputs)
        self._targets.copy_(targets)
        if state is not self.state:
            self._put_state(state)
        return self._run(seed)

    def _run(self, seed: int) -> Outputs:
        self._seed(seed)
        self._replay()
        # An eager step in between has put others there.
        for parameter, gradient in zip(self._parameters, self._outputs.gradients, strict=True):
            parameter.grad = gradient
        return self._outputs

    def _body(self) -> Outputs:
        """The step itself, on what is in the buffers; its last state replaces the first one."""
        for parameter in self._parameters:
            parameter.grad = None
        summed_nll, state = self._backward(
            self._model,
            self._arithmetic,
            self._inputs,
            self._targets,
            self.state,
            self._generator,
        )
        norm = global_norm(self._parameters)
        clip = clip_coefficient_on_device(norm, self._max_grad_norm)
        figures = torch.stack([summed_nll, norm])
        self._put_state(state)
        return Outputs(figures, clip, [parameter.grad for parameter in self._parameters])

    def _put_state(self, state: State) -> None:
        """Copies a state into the buffers, though a part of it may be a part of these."""
        parts = [part.detach() for layer in state for part in layer]
        buffers = [buffer for layer in self.state for buffer in layer]
        locations = {buffer.untyped_storage().data_ptr() for buffer in buffers}
        parts = [p.clone() if p.untyped_storage().data_ptr() in locations else p for p in parts]
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part)

    def _seed(self, seed: int) -> None:
        self._generator.manual_seed(seed)
        seed_global_generator(self._arithmetic.device, seed)

    def _refuse_difference(self, seed: int) -> None:
        """Makes a step both ways from where the state is, and compares."""
        before = _copy(self.state)
        self._seed(seed)
        eager = self._body()  # its outputs are tensors of their own, the state is overwritten
        wanted = _parts(eager, _copy(self.state))
        self._put_state(before)
        found = _parts(self._run(seed), self.state)
        if not all(map(_agree, found, wanted)):
            raise ReplayDiffersError("a captured step does not compute what the step does")


def _copy(state: State) -> State:
    return tuple(tuple(part.clone() for part in layer) for layer in state)


def _parts(outputs: Outputs, state: State) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """PublishedResult, gradients and state of a step."""
    gradients = [gradient for gradient in outputs.gradients if gradient is not None]
    return [outputs.figures], gradients, [part for layer in state for part in layer]


def _agree(found: list[Tensor], wanted: list[Tensor]) -> bool:
    """Whether two lists of tensors, each as one vector, are the same but for rounding."""
    if len(found) != len(wanted):
        return False
    apart = math.hypot(
        *(torch.linalg.vector_norm(f - w).item() for f, w in zip(found, wanted, strict=True))
    )
    size = math.hypot(*(torch.linalg.vector_norm(w).item() for w in wanted))
    return apart <= _LARGEST_DIFFERENCE * size


def capture_on_cuda(body: Body, generator: torch.Generator) -> tuple[Outputs, Callable[[], None]]:
    """Captures `body` as a CUDA graph; a `Capture`.

    Raises:
        Exception: of any kind, if it can't be captured.
    """
    device = generator.device
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        try:
            # This also brings the stream back that a capture which fails leaves behind.
            with torch.cuda.stream(side):
                body()  # libraries make their handles, and compilers compile
                # A capture that fails on its way leaves torch's generators and its allocator in
                # disorder; what waits for the device, as most of what can't be captured does,
                # fails here before it is tried.
                with forbid_host_sync():
                    body()
                graph = torch.cuda.CUDAGraph()
                graph.register_generator_state(generator)
                with torch.cuda.graph(graph, stream=side):
                    outputs = body()
        except Exception:
            torch.cuda.synchronize()
            # It still counts as captured in some versions of torch, and refuses to draw.
            default = torch.cuda.default_generators[torch.cuda.current_device()]
            default.graphsafe_set_state(torch.Generator(device))
            raise
        torch.cuda.current_stream().wait_stream(side)
    return outputs, graph.replay


@contextmanager
def forbid_host_sync() -> Iterator[None]:
    """Within this, whatever makes the host wait for a CUDA device is a RuntimeError."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls this mode a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
