"""Measures the GEMM-only time of a training step: its matrix multiplications alone.

Each multiplication uses the fastest method. Methods differ in row-major or column-major operands
and results and, on a CPU, in the use of oneDNN and of a second operand that is packed in advance.
Everything else, including packing and dtype conversions, is excluded. The result is an estimate of
the minimum possible time.

Shapes: m x k times k x n; T time, B batch, V vocabulary, H hidden.
"""

import itertools
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from benchmark.flags import fp32_matmul_precision, torch_defaults
from benchmark.measure import device_wait
from ptblm.config.schema import Config

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Matmul:
    """A matrix multiplication in a step, repeated `times` times."""

    m: int
    k: int
    n: int
    times: int = 1

    @property
    def flop(self) -> int:
        """The number of floating-point operations."""
        return 2 * self.m * self.k * self.n * self.times


@dataclass(frozen=True)
class Method:
    """A method of computing a matrix multiplication.

    Attributes:
        route: value of the fp32_precision flag of torch.
        layout: "packed", or the layouts of both operands and the result: "r" for row-major, "c"
            for column-major.
    """

    route: str
    layout: str


def step_matmuls(config: Config, vocab_size: int) -> list[Matmul]:
    """Returns the matrix multiplications of a training step of an LSTM, forward and backward."""
    model, training = config.model, config.training
    batch, times, hidden = training.batch_size, training.num_steps, model.hidden_size
    positions, gates = batch * times, 4 * hidden
    forward: list[Matmul] = []
    backward = [
        Matmul(positions, hidden, vocab_size),  # logits
        Matmul(positions, vocab_size, hidden),  # gradient of the features
        Matmul(vocab_size, positions, hidden),  # gradient of the weight
    ]
    for layer in range(model.num_layers):
        inputs = hidden if layer else model.embedding_size or hidden
        forward += [Matmul(positions, inputs, gates), Matmul(batch, hidden, gates, times)]
        backward += [
            Matmul(batch, gates, hidden, times),
            Matmul(positions, gates, inputs),
            Matmul(gates, positions, inputs),
            Matmul(gates, positions, hidden),
        ]
    return forward + backward


def gemm_job(
    matmuls: list[Matmul], device: torch.device, precision: str
) -> tuple[Callable[[], object], list[dict[str, object]]]:
    """Returns a function that computes all matrix multiplications, and the method of each.

    On CUDA, they are captured as one graph to avoid launch overhead.
    """
    methods = [fastest_method(one.m, one.k, one.n, device, precision) for one in matmuls]
    calls = [
        matmul_call(matmul, method, device, precision)
        for matmul, method in zip(matmuls, methods, strict=True)
    ]

    def run() -> None:
        with torch_defaults(), torch.inference_mode():
            for matmul, method, call in zip(matmuls, methods, calls, strict=True):
                with _route(method.route, device):
                    for _ in range(matmul.times):
                        call()

    details = [vars(matmul) | vars(method) for matmul, method in zip(matmuls, methods, strict=True)]
    if device.type != "cuda":
        return run, details
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay, details


@cache
def fastest_method(m: int, k: int, n: int, device: torch.device, precision: str) -> Method:
    """Returns the fastest method: times all methods once, then the best three again."""
    matmul = Matmul(m, k, n)
    seconds: dict[Method, float] = {}

    def measure(method: Method, repetitions: int) -> None:
        call = matmul_call(matmul, method, device, precision)
        with torch_defaults(), torch.inference_mode(), _route(method.route, device):
            for _ in range(repetitions):
                seconds[method] = min(seconds.get(method, 1e9), _seconds(call, device))

    for method in _methods(matmul, device, precision):
        measure(method, 1)
    for method in sorted(seconds, key=lambda method: seconds[method])[:3]:
        measure(method, 4)
    return min(seconds, key=lambda method: seconds[method])


def _methods(matmul: Matmul, device: torch.device, precision: str) -> list[Method]:
    routes = ["tf32"] if precision == "tf32" else ["none"]
    if device.type == "cpu" and precision == "fp32" and _is_exact("bf16", matmul, device):
        routes.append("bf16")
    layouts = ["".join(layout) for layout in itertools.product("rc", repeat=3)]
    methods = [Method(route, layout) for route in routes for layout in layouts]
    if device.type == "cpu" and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        methods.append(Method("none", "packed"))
    return methods


def _is_exact(route: str, matmul: Matmul, device: torch.device) -> bool:
    """Returns whether a route that may round its operands has fp32 accuracy."""
    a = torch.randn(min(matmul.m, 50), matmul.k, device=device)
    b = torch.randn(matmul.k, min(matmul.n, 200), device=device)
    with torch_defaults(), _route(route, device):
        found = torch.mm(a, b).double()
    expected = a.double() @ b.double()
    return bool((found - expected).norm() < 1e-5 * expected.norm())


def _route(route: str, device: torch.device) -> AbstractContextManager[None]:
    # "none" is the default of torch. Setting it would take time.
    return nullcontext() if route == "none" else fp32_matmul_precision(route, device)


def matmul_call(
    matmul: Matmul, method: Method, device: torch.device, precision: str
) -> Callable[[], object]:
    """Returns a function that multiplies random matrices with the given method."""
    dtype = _DTYPES.get(precision, torch.float32)

    def random(layout: str, rows: int, columns: int) -> Tensor:
        if layout == "c":
            return torch.randn(columns, rows, device=device).to(dtype).t()
        return torch.randn(rows, columns, device=device).to(dtype)

    m, k, n = matmul.m, matmul.k, matmul.n
    if method.layout == "packed":
        a, weight = random("r", m, k), random("r", n, k)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, m)
        return lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    a, b, result = (
        random(layout, *shape)
        for layout, shape in zip(method.layout, [(m, k), (k, n), (m, n)], strict=True)
    )
    return lambda: torch.mm(a, b, out=result)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Returns the mean seconds of a call over at least 5 ms, after one warm-up call."""
    wait = device_wait(device)
    calls, seconds = 1, 0.0
    call()
    while True:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        seconds = time.perf_counter() - start
        if seconds > 0.005:
            return seconds / calls
        calls *= 4
