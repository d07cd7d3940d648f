"""The floor of a training step: its matrix products alone, each as fast as torch does it here.

Every product is tried with its operands and its result lying either way in memory, and on a CPU
through oneDNN too, where torch's default is another library, and with its second operand packed
beforehand. What is not a product, packing and conversions too, is not counted.

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

from benchmark.flags import fp32_products_as, torch_defaults
from ptblm.config.schema import Config

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_Multiply = Callable[[], object]


@dataclass(frozen=True)
class Product:
    """One that a step makes, `times` in a row, each waiting for the one before."""

    m: int
    k: int
    n: int
    times: int = 1

    @property
    def flop(self) -> int:
        """Additions and multiplications."""
        return 2 * self.m * self.k * self.n * self.times


@dataclass(frozen=True)
class Way:
    """A way to compute a product.

    Attributes:
        route: a value of torch's fp32_precision flag.
        layout: of both operands and the result: "r" by rows, "c" by columns; or "packed".
    """

    route: str
    layout: str


def step_products(config: Config, vocab_size: int) -> list[Product]:
    """The products of a training step of an LSTM, forward then backward."""
    model, training = config.model, config.training
    batch, times, hidden = training.batch_size, training.num_steps, model.hidden_size
    positions, gates = batch * times, 4 * hidden
    forward: list[Product] = []
    backward = [
        Product(positions, hidden, vocab_size),  # logits
        Product(positions, vocab_size, hidden),  # gradient of the hidden vectors
        Product(vocab_size, positions, hidden),  # gradient of the weight
    ]
    for layer in range(model.num_layers):
        inputs = hidden if layer else model.embedding_size or hidden
        forward += [Product(positions, inputs, gates), Product(batch, hidden, gates, times)]
        backward += [
            Product(batch, gates, hidden, times),
            Product(positions, gates, inputs),
            Product(gates, positions, inputs),
            Product(gates, positions, hidden),
        ]
    return forward + backward


def floor_job(
    products: list[Product], device: torch.device, precision: str
) -> tuple[Callable[[], object], list[dict[str, object]]]:
    """What computes all the products once, and how it does each.

    On CUDA they are one captured graph, so that launching them costs nothing.
    """
    ways = [fastest_way(product.m, product.k, product.n, device, precision) for product in products]
    multiply = [
        multiplication(product, way, device, precision)
        for product, way in zip(products, ways, strict=True)
    ]

    def run() -> None:
        with torch_defaults(), torch.inference_mode():
            for product, way, one in zip(products, ways, multiply, strict=True):
                with _route(way.route, device):
                    for _ in range(product.times):
                        one()

    told = [vars(product) | vars(way) for product, way in zip(products, ways, strict=True)]
    if device.type != "cuda":
        return run, told
    run()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay, told


@cache
def fastest_way(m: int, k: int, n: int, device: torch.device, precision: str) -> Way:
    """The way that takes the least time; a rough look at all, then a closer one at the best."""
    product = Product(m, k, n)
    seconds: dict[Way, float] = {}

    def measure(way: Way, repetitions: int) -> None:
        one = multiplication(product, way, device, precision)
        with torch_defaults(), torch.inference_mode(), _route(way.route, device):
            for _ in range(repetitions):
                seconds[way] = min(seconds.get(way, 1e9), _seconds(one, device))

    for way in _ways(product, device, precision):
        measure(way, 1)
    for way in sorted(seconds, key=lambda way: seconds[way])[:3]:
        measure(way, 4)
    return min(seconds, key=lambda way: seconds[way])


def _ways(product: Product, device: torch.device, precision: str) -> list[Way]:
    routes = ["tf32"] if precision == "tf32" else ["none"]
    if device.type == "cpu" and precision == "fp32" and _exact("bf16", product, device):
        routes.append("bf16")
    layouts = ["".join(layout) for layout in itertools.product("rc", repeat=3)]
    ways = [Way(route, layout) for route in routes for layout in layouts]
    if device.type == "cpu" and hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        ways.append(Way("none", "packed"))
    return ways


def _exact(route: str, product: Product, device: torch.device) -> bool:
    """Whether a route that may round its operands computes as exactly as fp32 does here."""
    a = torch.randn(min(product.m, 50), product.k, device=device)
    b = torch.randn(product.k, min(product.n, 200), device=device)
    with torch_defaults(), _route(route, device):
        found = torch.mm(a, b).double()
    wanted = a.double() @ b.double()
    return bool((found - wanted).norm() < 1e-5 * wanted.norm())


def _route(route: str, device: torch.device) -> AbstractContextManager[None]:
    # Under "none", torch's own default, there is nothing to set: it costs time.
    return nullcontext() if route == "none" else fp32_products_as(route, device)


def multiplication(
    product: Product, way: Way, device: torch.device, precision: str
) -> Callable[[], object]:
    """What computes a product of random numbers, in that way."""
    dtype = _DTYPES.get(precision, torch.float32)

    def lying(layout: str, rows: int, columns: int) -> Tensor:
        if layout == "c":
            return torch.randn(columns, rows, device=device).to(dtype).t()
        return torch.randn(rows, columns, device=device).to(dtype)

    m, k, n = product.m, product.k, product.n
    if way.layout == "packed":
        a, weight = lying("r", m, k), lying("r", n, k)
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, m)
        return lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], "")
    a, b, result = (
        lying(layout, *shape)
        for layout, shape in zip(way.layout, [(m, k), (k, n), (m, n)], strict=True)
    )
    return lambda: torch.mm(a, b, out=result)


def _seconds(one: _Multiply, device: torch.device) -> float:
    """Of one call: the mean of as many as take 5 ms, after one that warms up."""
    wait = device_wait(device)
    calls, seconds = 1, 0.0
    one()
    while True:
        wait()
        start = time.perf_counter()
        for _ in range(calls):
            one()
        wait()
        seconds = time.perf_counter() - start
        if seconds > 0.005:
            return seconds / calls
        calls *= 4


def device_wait(device: torch.device) -> Callable[[], object]:
    """What returns when the device has done all that it was given."""
    if device.type == "cuda":
        return torch.cuda.synchronize
    return torch.mps.synchronize if device.type == "mps" else lambda: None
