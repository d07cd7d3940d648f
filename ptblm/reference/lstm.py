"""The model: an explicit forward pass and backpropagation through time.

Shapes: T time steps, B batch size, V vocabulary size, H hidden and embedding size.

One time step of a layer (Zaremba et al. 2014, section 3; gates in the order i, j, f, o):

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
    """Values of one time step of a layer that the backward pass uses."""

    xh: Array
    i: Array
    j: Array
    f: Array
    o: Array
    c_before: Array
    tanh_c: Array


def initial_parameters(
    vocab_size: int, hidden_size: int, num_layers: int, scale: float, rng: np.random.Generator
) -> Parameters:
    """Returns parameters drawn uniformly from [-scale, scale], with zero LSTM biases."""

    def uniform(*shape: int) -> Array:
        return rng.uniform(-scale, scale, shape)

    parameters = {"embedding": uniform(vocab_size, hidden_size)}
    for layer in range(num_layers):
        parameters[f"kernel{layer}"] = uniform(2 * hidden_size, 4 * hidden_size)
        parameters[f"bias{layer}"] = np.zeros(4 * hidden_size)
    parameters["softmax_w"] = uniform(hidden_size, vocab_size)
    parameters["softmax_b"] = uniform(vocab_size)
    return parameters


def num_layers(parameters: Parameters) -> int:
    """Returns the number of LSTM layers."""
    return sum(name.startswith("kernel") for name in parameters)


def zero_state(parameters: Parameters, batch_size: int) -> State:
    """Returns the hidden state before the first token of a text."""
    h = np.zeros((batch_size, parameters["embedding"].shape[1]), parameters["embedding"].dtype)
    return [(h, h) for _ in range(num_layers(parameters))]


def sigmoid(z: Array) -> Array:
    """Returns 1 / (1 + exp(-z)), computed with tanh, which does not overflow."""
    half: Array = np.tanh(z / 2)
    return (1 + half) / 2


def lstm_step(
    x: Array, h_before: Array, c_before: Array, kernel: Array, bias: Array
) -> tuple[Array, Array, Step]:
    """Computes one time step of a layer: h and c, [B, H], and the values for `lstm_step_back`."""
    xh = np.concatenate([x, h_before], axis=1)  # [B, 2H]
    z_i, z_j, z_f, z_o = np.split(xh @ kernel + bias, 4, axis=1)  # [B, H] each
    i, j, f, o = sigmoid(z_i), np.tanh(z_j), sigmoid(z_f), sigmoid(z_o)
    c = f * c_before + i * j
    tanh_c = np.tanh(c)
    return o * tanh_c, c, Step(xh, i, j, f, o, c_before, tanh_c)


def lstm_step_back(
    dh: Array, dc: Array, step: Step, kernel: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Applies the chain rule to one time step of a layer.

    Args:
        dh: gradient with respect to h, [B, H]: the sum of the gradients from the layer above and
            from the next time step.
        dc: gradient with respect to c from the next time step, [B, H].
        step: values that `lstm_step` returned.
        kernel: kernel of the layer, [2H, 4H].

    Returns:
        Gradients with respect to x, h_before, c_before, kernel and bias. The caller sums the
        gradients of kernel and bias over time.
    """
    do = dh * step.tanh_c
    dc = dc + dh * step.o * (1 - step.tanh_c**2)  # c affects h and the next c
    di, dj, df = dc * step.j, dc * step.i, dc * step.c_before
    dz = np.concatenate(
        [
            di * step.i * (1 - step.i),
            dj * (1 - step.j**2),
            df * step.f * (1 - step.f),
            do * step.o * (1 - step.o),
        ],
        axis=1,
    )  # [B, 4H]
    dxh = dz @ kernel.T  # [B, 2H]; sums over the four gates
    dx, dh_before = np.split(dxh, [step.xh.shape[1] - dh.shape[1]], axis=1)
    return dx, dh_before, dc * step.f, step.xh.T @ dz, dz.sum(axis=0)


def softmax_nll(hidden: Array, targets: Ids, w: Array, b: Array) -> tuple[float, Array]:
    """Returns the summed -log p of the targets and its gradient with respect to the logits, [N, V].

    The gradient is p, minus 1 at the index of the *target*. The shapes of the arguments are
    hidden [N, H], targets [N], w [H, V] and b [V].
    """
    logits = hidden @ w + b  # [N, V]
    logits -= logits.max(axis=1, keepdims=True)  # prevents overflow in exp
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(targets))
    dlogits = np.exp(log_p)
    dlogits[rows, targets] -= 1
    return float(-log_p[rows, targets].sum()), dlogits


def loss_and_gradients(
    parameters: Parameters, inputs: Ids, targets: Ids, state: State
) -> tuple[float, Parameters, State]:
    """Computes the cost of one batch, its gradients, and the next state.

    Args:
        parameters: parameters of the model, by name.
        inputs: ids, [T, B].
        targets: ids that follow the inputs, [T, B].
        state: hidden state after the previous batch; gradients do not flow into it.

    Returns:
        Summed -log p divided by B (ptb_word_lm.py), gradients by parameter name, and next state.
    """
    time_steps, batch_size = inputs.shape
    layers = range(num_layers(parameters))
    # Forward: one time step after another, from the lowest layer to the highest.
    state = list(state)
    steps: list[list[Step]] = []
    outputs = []
    for t in range(time_steps):
        x = parameters["embedding"][inputs[t]]  # [B, H]
        steps.append([])
        for layer in layers:
            kernel, bias = parameters[f"kernel{layer}"], parameters[f"bias{layer}"]
            x, c, step = lstm_step(x, *state[layer], kernel, bias)
            state[layer] = (x, c)
            steps[t].append(step)
        outputs.append(x)
    hidden = np.concatenate(outputs)  # [T B, H]
    nll, dlogits = softmax_nll(
        hidden, targets.reshape(-1), parameters["softmax_w"], parameters["softmax_b"]
    )
    dlogits /= batch_size

    # Backward: all operations in reverse order. Gradients are summed over time because all time
    # steps use the same parameters.
    gradients = {name: np.zeros_like(value) for name, value in parameters.items()}
    gradients["softmax_w"] = hidden.T @ dlogits
    gradients["softmax_b"] = dlogits.sum(axis=0)
    dhidden = (dlogits @ parameters["softmax_w"].T).reshape(time_steps, batch_size, -1)
    # Gradients of h and c from later time steps; zero at the last one.
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
        np.add.at(gradients["embedding"], inputs[t], dx)  # a token can occur twice
    return nll / batch_size, gradients, state
