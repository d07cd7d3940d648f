"""The model: forward, and backward through time by hand.

Shapes: T time, B batch, V vocabulary, H hidden (and embedding), [rows, columns] in brackets.

One layer's step (Zaremba et al. 2014, section 3; gates in the order i, j, f, o):

    z = [x, h_before] K + b                  [B, 4 H]
    i = σ(z_i)   j = tanh(z_j)   f = σ(z_f)   o = σ(z_o)
    c = f ⊙ c_before + i ⊙ j
    h = o ⊙ tanh(c)
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Ids = NDArray[np.integer[Any]]
Parameters = dict[str, Array]
State = list[tuple[Array, Array]]  # (h, c) of each layer, [B, H] each


class Step(NamedTuple):
    """What one layer's step must remember for the way back."""

    xh: Array
    i: Array
    j: Array
    f: Array
    o: Array
    c_before: Array
    tanh_c: Array


def initial_parameters(
    vocab_size: int, hidden_size: int, num_layers: int, scale: float, source: np.random.Generator
) -> Parameters:
    """All uniform in [-scale, scale] but the LSTMs' biases, which are zero."""

    def uniform(*shape: int) -> Array:
        return source.uniform(-scale, scale, shape)

    parameters = {"embedding": uniform(vocab_size, hidden_size)}
    for layer in range(num_layers):
        parameters[f"kernel{layer}"] = uniform(2 * hidden_size, 4 * hidden_size)
        parameters[f"bias{layer}"] = np.zeros(4 * hidden_size)
    parameters["softmax_w"] = uniform(hidden_size, vocab_size)
    parameters["softmax_b"] = uniform(vocab_size)
    return parameters


def num_layers(parameters: Parameters) -> int:
    """How many LSTM layers the parameters are of."""
    return sum(name.startswith("kernel") for name in parameters)


def zero_state(parameters: Parameters, batch_size: int) -> State:
    """The state before a text's first symbol."""
    h = np.zeros((batch_size, parameters["embedding"].shape[1]), parameters["embedding"].dtype)
    return [(h, h) for _ in range(num_layers(parameters))]


def sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), by tanh, which does not overflow."""
    half: Array = np.tanh(z / 2)
    return (1 + half) / 2


def lstm_step(
    x: Array, h_before: Array, c_before: Array, kernel: Array, bias: Array
) -> tuple[Array, Array, Step]:
    """One step of one layer: h and c, [B, H], and what the way back needs."""
    xh = np.concatenate([x, h_before], axis=1)
    z_i, z_j, z_f, z_o = np.split(xh @ kernel + bias, 4, axis=1)
    i, j, f, o = sigmoid(z_i), np.tanh(z_j), sigmoid(z_f), sigmoid(z_o)
    c = f * c_before + i * j
    tanh_c = np.tanh(c)
    return o * tanh_c, c, Step(xh, i, j, f, o, c_before, tanh_c)


def lstm_step_back(
    dh: Array, dc: Array, step: Step, kernel: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """The chain rule through one step.

    Args:
        dh: gradient of all that comes after with respect to h, [B, H]: from the layer above and
            from the next time step together.
        dc: with respect to c, from the next time step alone, [B, H].
        step: what `lstm_step` remembered.
        kernel: of the layer.

    Returns:
        Gradients with respect to x, h_before and c_before, and to the kernel and the bias. The
        last two are this step's share: the caller sums them over time.
    """
    do = dh * step.tanh_c
    dc = dc + dh * step.o * (1 - step.tanh_c**2)  # c acts through h, and through the next c
    di, dj, df = dc * step.j, dc * step.i, dc * step.c_before
    dz = np.concatenate(
        [
            di * step.i * (1 - step.i),
            dj * (1 - step.j**2),
            df * step.f * (1 - step.f),
            do * step.o * (1 - step.o),
        ],
        axis=1,
    )
    dxh = dz @ kernel.T  # one product sums over the four gates
    dx, dh_before = np.split(dxh, [step.xh.shape[1] - dh.shape[1]], axis=1)
    return dx, dh_before, dc * step.f, step.xh.T @ dz, dz.sum(axis=0)


def softmax_nll(hidden: Array, targets: Ids, w: Array, b: Array) -> tuple[float, Array]:
    """Summed -log p of the targets [N], and its gradient with respect to the logits [N, V].

    That gradient is p, with 1 taken off at the *target's* place, and at no other.
    """
    logits = hidden @ w + b
    logits -= logits.max(axis=1, keepdims=True)  # the same softmax, and exp can't overflow
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(targets))
    dlogits = np.exp(log_p)
    dlogits[rows, targets] -= 1
    return float(-log_p[rows, targets].sum()), dlogits


def loss_and_gradients(
    parameters: Parameters, inputs: Ids, targets: Ids, state: State
) -> tuple[float, Parameters, State]:
    """Cost of one batch, its gradients, and the state after it.

    Args:
        parameters: the model's.
        inputs: ids, [T, B].
        targets: the ids that follow them, [T, B].
        state: carried from the batch before, by value.

    Returns:
        Summed -log p divided by B (ptb_word_lm.py), gradients named as the parameters, and the
        state.
    """
    time_steps, batch_size = inputs.shape
    layers = range(num_layers(parameters))
    # Forward, time step by time step, each from the lowest layer to the highest.
    state = list(state)
    steps: list[list[Step]] = []
    outputs = []
    for t in range(time_steps):
        x = parameters["embedding"][inputs[t]]
        steps.append([])
        for layer in layers:
            kernel, bias = parameters[f"kernel{layer}"], parameters[f"bias{layer}"]
            x, c, step = lstm_step(x, *state[layer], kernel, bias)
            state[layer] = (x, c)
            steps[t].append(step)
        outputs.append(x)
    hidden = np.concatenate(outputs)
    nll, dlogits = softmax_nll(
        hidden, targets.reshape(-1), parameters["softmax_w"], parameters["softmax_b"]
    )
    dlogits /= batch_size

    # Backward, in the reverse order of everything. Gradients are summed over time, since each
    # step used the same parameters.
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    gradients["softmax_w"] = hidden.T @ dlogits
    gradients["softmax_b"] = dlogits.sum(axis=0)
    dhidden = (dlogits @ parameters["softmax_w"].T).reshape(time_steps, batch_size, -1)
    # Of h and c with respect to what comes later in time; nothing comes after the last step.
    later = [(np.zeros_like(h), np.zeros_like(c)) for h, c in state]
    for t in reversed(range(time_steps)):
        dx = dhidden[t]
        for layer in reversed(layers):
            dh_later, dc_later = later[layer]
            kernel = parameters[f"kernel{layer}"]
            dx, dh_before, dc_before, dkernel, dbias = lstm_step_back(
                dx + dh_later, dc_later, steps[t][layer], kernel
            )
            later[layer] = (dh_before, dc_before)
            gradients[f"kernel{layer}"] += dkernel
            gradients[f"bias{layer}"] += dbias
        np.add.at(gradients["embedding"], inputs[t], dx)  # a symbol may occur twice
    return nll / batch_size, gradients, state
