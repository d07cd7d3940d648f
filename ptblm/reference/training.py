"""Training and sampling: gradient clipping, SGD, Adam, and text generation."""

import numpy as np

from ptblm.reference.lstm import Parameters, State, lstm_step, num_layers, zero_state


def clip(gradients: Parameters, max_norm: float) -> float:
    """Clips the global norm of all gradients to `max_norm` in place; returns the original norm."""
    norm = float(np.sqrt(sum((gradient**2).sum() for gradient in gradients.values())))
    for gradient in gradients.values():
        gradient *= max_norm / max(norm, max_norm)
    return norm


def sgd(parameters: Parameters, gradients: Parameters, rate: float) -> None:
    """Updates the parameters: w <- w - rate * gradient."""
    for name, gradient in gradients.items():
        parameters[name] -= rate * gradient


class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1).

    Args:
        parameters: parameters to update, by name.
        rate: learning rate, α.
        beta1: decay rate of the average gradient.
        beta2: decay rate of the average squared gradient.
        epsilon: added to the denominator to avoid division by zero.
    """

    def __init__(
        self,
        parameters: Parameters,
        rate: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self.rate, self.beta1, self.beta2, self.epsilon = rate, beta1, beta2, epsilon
        self.m = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.v = {name: np.zeros_like(value) for name, value in parameters.items()}
        self.steps = 0

    def update(self, parameters: Parameters, gradients: Parameters) -> None:
        """Performs one update. m_hat and v_hat correct the bias of averages that start at zero."""
        self.steps += 1
        for name, g in gradients.items():
            self.m[name] = self.beta1 * self.m[name] + (1 - self.beta1) * g
            self.v[name] = self.beta2 * self.v[name] + (1 - self.beta2) * g**2
            m_hat = self.m[name] / (1 - self.beta1**self.steps)
            v_hat = self.v[name] / (1 - self.beta2**self.steps)
            parameters[name] -= self.rate * m_hat / (np.sqrt(v_hat) + self.epsilon)


def sample(parameters: Parameters, first: int, length: int, rng: np.random.Generator) -> list[int]:
    """Samples ids from the distributions predicted by the model, starting with `first`."""
    state: State = zero_state(parameters, batch_size=1)
    ids = [first]
    while len(ids) < length:
        x = parameters["embedding"][[ids[-1]]]
        for layer in range(num_layers(parameters)):
            kernel, bias = parameters[f"kernel{layer}"], parameters[f"bias{layer}"]
            x, c, _ = lstm_step(x, *state[layer], kernel, bias)
            state[layer] = (x, c)
        logits = (x @ parameters["softmax_w"] + parameters["softmax_b"])[0].astype(np.float64)
        p = np.exp(logits - logits.max())
        ids.append(int(rng.choice(len(p), p=p / p.sum())))
    return ids
