"""The model: semantics of TensorFlow's tutorial, and common errors of re-implementations."""

import math

import pytest
import torch
from torch import Tensor

from ptblm.config.cells import LSTMConfig
from ptblm.config.dropout import DropoutConfig
from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers.recurrent import detach


def make_model(dropout: float = 0.0, num_layers: int = 2) -> LanguageModel:
    config = ModelConfig(
        hidden_size=4,
        num_layers=num_layers,
        embedding_size=3,
        dropout=DropoutConfig.everywhere(dropout),
    )
    model = build_model(config, vocab_size=11).double()
    model.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
    return model


def make_text(batch: int = 2, steps: int = 5) -> tuple[Tensor, Tensor]:
    ids = torch.randint(11, (batch, steps + 1), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


@pytest.mark.parametrize(
    ("name", "count"), [("small", 4_651_600), ("medium", 19_775_200), ("large", 66_022_000)]
)
def test_trainable_parameters_on_ptb(name: str, count: int) -> None:
    with torch.device("meta"):
        model = build_model(load_config(name).model, vocab_size=10_000)
    assert model.parameter_count() == count


def test_initialization() -> None:
    """Uniform in [-scale, scale], the bias of the head included; zero for the LSTM biases."""
    model = build_model(
        ModelConfig(hidden_size=40, num_layers=2, cell=LSTMConfig(forget_bias=1.0)), vocab_size=500
    )
    model.initialize(Initializer("uniform", 0.1), torch.Generator().manual_seed(3))
    for name, parameter in model.named_parameters():
        if name.endswith("gates.bias"):
            assert parameter.abs().max() == 0
        else:
            assert parameter.min() >= -0.1
            assert parameter.max() <= 0.1
            assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.1)
    kernels = [layer.cell.get_parameter("gates.weight_hh") for layer in model.recurrent.layers]
    assert not torch.equal(kernels[0], kernels[1])  # layers share nothing


def test_gradients_by_finite_differences() -> None:
    model = make_model()
    inputs, targets = make_text()
    state = tuple(
        tuple(torch.randn_like(part) for part in layer) for layer in model.initial_state(2)
    )

    def cost() -> Tensor:
        return model.nll(inputs, targets, state)[0].sum() / 2

    cost().backward()
    step = 1e-5
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        flat = parameter.data.view(-1)
        for index in range(0, flat.numel(), max(1, flat.numel() // 7)):
            before = flat[index].item()
            with torch.no_grad():
                flat[index] = before + step
                above = cost().item()
                flat[index] = before - step
                below = cost().item()
                flat[index] = before
            numeric = (above - below) / (2 * step)
            analytic = parameter.grad.view(-1)[index].item()
            assert analytic == pytest.approx(numeric, rel=1e-6, abs=1e-8), name


def test_perplexity_of_a_uniform_model_is_the_vocabulary_size() -> None:
    model = make_model()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.fill_(0.7)
    nll, _ = model.nll(*make_text(), model.initial_state(2))
    assert nll.mean().exp().item() == pytest.approx(11, rel=1e-12)


def test_large_logits_stay_finite() -> None:
    """A softmax that calls exp() directly overflows here."""
    model = make_model()
    with torch.no_grad():
        model.head.bias.copy_(torch.arange(11) * 1000.0)
    nll, _ = model.nll(*make_text(), model.initial_state(2))
    assert torch.isfinite(nll).all()


def test_hidden_state_carries_the_text_across_batches() -> None:
    model = make_model()
    inputs, targets = make_text(steps=8)
    whole, last = model.nll(inputs, targets, model.initial_state(2))
    first, state = model.nll(inputs[:, :3], targets[:, :3], model.initial_state(2))
    rest, cut_last = model.nll(inputs[:, 3:], targets[:, 3:], detach(state))
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cut_last, last, rtol=1e-12, atol=1e-12)


def test_detached_state_has_no_gradient() -> None:
    model = make_model()
    _, state = model.nll(*make_text(), model.initial_state(2))
    assert all(part.requires_grad for layer in state for part in layer)
    assert not any(part.requires_grad for layer in detach(state) for part in layer)


def test_target_is_predicted_from_the_past_only() -> None:
    model = make_model()
    inputs, targets = make_text(batch=1, steps=6)
    before, _ = model.nll(inputs, targets, model.initial_state(1))
    changed = inputs.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 11
    after, _ = model.nll(changed, targets, model.initial_state(1))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_streams_are_independent() -> None:
    model = make_model()
    inputs, targets = make_text(batch=3)
    together, _ = model.nll(inputs, targets, model.initial_state(3))
    for row in range(3):
        alone, _ = model.nll(inputs[row, None], targets[row, None], model.initial_state(1))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)
