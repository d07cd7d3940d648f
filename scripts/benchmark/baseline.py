"""The PyTorch baseline: a straightforward implementation with standard torch modules.

It uses torch's multi-layer LSTM, loss, gradient clipping, optimizer and autocast. The training loop
never waits for a value from the device.

Shapes: T time, B batch, V vocabulary, E embedding, H hidden.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmark.ptblm_run import non_baseline_options
from ptblm.config.schema import Config
from ptblm.config.training import TrainingConfig
from ptblm.errors import UsageError

State = tuple[Tensor, ...]
# The mean negative log-likelihood per token and the gradient norm of each step, on the device.
Steps = Iterator[tuple[Tensor, Tensor]]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class BaselineModel(nn.Module):
    """Embedding, LSTM and softmax layer with dropout between them.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: H.
        num_layers: number of LSTM layers.
        dropout: dropout probability.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, num_layers, dropout=dropout)
        self.softmax = nn.Linear(hidden_size, vocab_size)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Returns logits, [T, B, V], and the last hidden state for token ids, [T, B]."""
        embedded = self.dropout(self.embedding(inputs))  # [T, B, E]
        features, state = self.lstm(embedded, state)  # [T, B, H]
        return self.softmax(self.dropout(features)), state


def baseline_model(config: Config, vocab_size: int) -> BaselineModel:
    """Returns the baseline with the sizes of a config and torch's default initial weights.

    Raises:
        UsageError: if the config uses options that the baseline does not support.
    """
    if options := non_baseline_options(config):
        raise UsageError(
            f"the PyTorch baseline does not support these options: {', '.join(options)}",
            hint="benchmark a config with an LSTM and the sgd optimizer, such as small",
        )
    model = config.model
    return BaselineModel(
        vocab_size,
        model.embedding_size or model.hidden_size,
        model.hidden_size,
        model.num_layers,
        model.dropout.output,
    )


def train_steps(
    model: Callable[..., Any], text: Tensor, training: TrainingConfig, autocast: str | None = None
) -> Steps:
    """Trains a model and yields the loss and the gradient norm of each step.

    Args:
        model: a BaselineModel on its device, compiled or not.
        text: token ids, [steps * T + 1, B].
        training: T, learning rate and maximum gradient norm.
        autocast: "bf16" or "fp16"; None trains in fp32.
    """
    parameters = list(model.parameters())  # type: ignore[attr-defined]
    optimizer = torch.optim.SGD(parameters, lr=training.learning_rate)
    kind = text.device.type
    scaler = torch.amp.GradScaler(kind, enabled=autocast == "fp16")
    state: State | None = None
    for start in range(0, len(text) - 1, training.num_steps):
        end = start + training.num_steps
        inputs, targets = text[start:end], text[start + 1 : end + 1]
        optimizer.zero_grad()
        with torch.autocast(kind, _DTYPES.get(autocast or ""), enabled=autocast is not None):
            logits, state = model(inputs, state)
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        # Published learning rates are for a loss that is summed over time.
        scaler.scale(loss * len(inputs)).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(parameters, training.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        state = tuple(part.detach() for part in state)
        yield loss.detach(), norm


@torch.inference_mode()
def score_by_token(model: BaselineModel, ids: Tensor) -> float:
    """Scores ids, [N + 1], one token at a time; returns the summed negative log-likelihood."""
    model.eval()
    state: State | None = None
    total = torch.zeros((), dtype=torch.float64, device=ids.device)
    for token, target in itertools.pairwise(ids):
        logits, state = model(token.view(1, 1), state)
        total -= functional.log_softmax(logits.view(-1), dim=0).gather(0, target.view(1))[0]
    return total.item()
