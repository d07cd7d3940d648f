"""The plain version: what one writes in ten minutes with torch's own modules.

No tricks and no handicaps: torch's LSTM over all layers and time steps, its loss, its clipping,
its optimizer, its autocast; no value is fetched from the device in the loop.

Shapes: T time, B batch, V vocabulary, E embedding, H hidden.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ptblm.config.cells import LSTMConfig
from ptblm.config.schema import Config
from ptblm.config.training import TrainingConfig
from ptblm.corpus.batches import batchify
from ptblm.corpus.corpus import Corpus
from ptblm.errors import UsageError
from ptblm.model.language_model import LanguageModel

State = tuple[Tensor, ...]

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class PlainModel(nn.Module):
    """Embedding, LSTM, softmax, dropout between them.

    Args:
        vocab_size: V.
        embedding_size: E.
        hidden_size: H.
        num_layers: of the LSTM.
        dropout: share dropped.
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
        """Logits, [T, B, V], and the last state, for word ids, [T, B]."""
        embedded = self.dropout(self.embedding(inputs))
        hidden, state = self.lstm(embedded, state)
        return self.softmax(self.dropout(hidden)), state


def plain_model(config: Config, vocab_size: int) -> PlainModel:
    """The plain model of a config's sizes, with weights of torch's choice.

    Raises:
        UsageError: if the config asks for more than this model and its loop have.
    """
    model, training = config.model, config.training
    standard = LSTMConfig(forget_bias=model.cell.options.get("forget_bias", 0.0))
    odd = ["cell"] * (model.cell != standard)
    odd += ["initial_state"] * (model.initial_state != "zeros")
    odd += ["optimizer"] * (training.optimizer.type != "sgd")
    odd += ["warmup_steps"] * (training.warmup_steps > 0)
    if odd:
        raise UsageError(f"the plain version knows no other {', '.join(odd)} than the tutorial's")
    return PlainModel(
        vocab_size,
        model.embedding_size or model.hidden_size,
        model.hidden_size,
        model.num_layers,
        model.dropout,
    )


@torch.no_grad()
def copy_weights(source: LanguageModel, plain: PlainModel, forget_bias: float) -> None:
    """Gives the plain model the weights of ptblm's.

    torch's LSTM adds two biases where ptblm trains one; its second holds the forget_bias, and
    stays as it is.
    """
    weights = source.state_dict()
    plain.embedding.weight.copy_(weights["embedding.weight"])
    plain.softmax.weight.copy_(weights["head.weight"])
    plain.softmax.bias.copy_(weights["head.bias"])
    size = plain.lstm.hidden_size
    for layer in range(plain.lstm.num_layers):
        ours = f"recurrent.layers.{layer}.cell.gates"
        for name in ("weight_ih", "weight_hh"):
            getattr(plain.lstm, f"{name}_l{layer}").copy_(weights[f"{ours}.{name}"])
        getattr(plain.lstm, f"bias_ih_l{layer}").copy_(weights[f"{ours}.bias"])
        constant = getattr(plain.lstm, f"bias_hh_l{layer}")
        constant.zero_()[size : 2 * size] = forget_bias
        constant.requires_grad_(False)


def plain_text(corpus: Corpus, config: Config, device: torch.device) -> Tensor:
    """The streams that ptblm trains on in an epoch, ids of [steps * T + 1, B]."""
    training = config.training
    ids = corpus.splits["train"].ids
    batches = batchify(ids, training.batch_size, training.num_steps, "train")
    streams = np.concatenate([batches.inputs[:, :1], batches.targets], axis=1)
    return torch.from_numpy(streams.T.astype(np.int64, order="C")).to(device)


def plain_steps(
    model: PlainModel,
    text: Tensor,
    training: TrainingConfig,
    precision: str = "fp32",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Trains, and yields each step's mean nats per word and its gradient's norm.

    Args:
        model: on its device.
        text: ids of [steps * T + 1, B].
        training: T, learning rate and clipping.
        precision: "fp32" as torch's flags have it, or "bf16" or "fp16" by autocast.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=training.learning_rate)
    kind = model.head.weight.device.type
    scaler = torch.amp.GradScaler(kind, enabled=precision == "fp16")
    state: State | None = None
    for start in range(0, len(text) - 1, training.num_steps):
        end = start + training.num_steps
        inputs, targets = text[start:end], text[start + 1 : end + 1]
        optimizer.zero_grad()
        with torch.autocast(kind, _AUTOCAST.get(precision), enabled=precision in _AUTOCAST):
            logits, state = model(inputs, state)
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        # Summed over time, averaged over the batch: the published rates are meant for that.
        torch.autograd.backward(scaler.scale(loss * len(inputs)))
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), training.max_grad_norm)
        scaler.step(optimizer)
        scaler.update()
        state = tuple(part.detach() for part in state)
        yield loss.detach(), norm


@torch.inference_mode()
def plain_score(model: PlainModel, words: Tensor) -> float:
    """Summed nats of a text, ids of [N + 1], stepping one word at a time; its first is given."""
    model.eval()
    state: State | None = None
    total = torch.zeros((), dtype=torch.float64, device=words.device)
    for word, target in itertools.pairwise(words):
        logits, state = model(word.view(1, 1), state)
        total -= functional.log_softmax(logits.view(-1), dim=0).gather(0, target.view(1))[0]
    return total.item()
