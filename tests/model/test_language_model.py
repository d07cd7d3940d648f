"""The model: TensorFlow's semantics, each trap that re-implementations fall into."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ptblm.config.loading import load_config
from ptblm.model.language_model import LanguageModel
from ptblm.model.recurrent import LSTMLayer, detach_state
from ptblm.run.assemble import build_model


def make_model(dropout: float = 0.0, num_layers: int = 2) -> LanguageModel:
    model = LanguageModel(
        vocab_size=11, hidden_size=4, num_layers=num_layers, embedding_size=3, dropout=dropout
    ).double()
    model.initialise(0.5, torch.Generator().manual_seed(0))
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


def test_the_seven_vectors_of_tensorflows_lstm_cell() -> None:
    """LSTMCell(3) on 7 steps of 4 inputs, forget_bias 1, as TensorFlow printed its outputs."""
    source = np.random.RandomState(0)
    inputs = source.normal(size=(1, 7, 4))
    limit = math.sqrt(6 / (7 + 12))
    kernel = source.uniform(-limit, limit, size=(7, 12))  # columns i, j, f, o
    expected = [
        [-0.2138602, -0.08401276, -0.25431478],
        [-0.22243595, -0.25817424, -0.16122109],
        [-0.22821338, -0.1420716, -0.35017252],
        [-0.23286738, -0.1712919, -0.27065122],
        [-0.1176867, -0.2071736, -0.13339119],
        [-0.05992149, -0.177561, -0.2028935],
        [0.11437953, -0.19484554, 0.05371996],
    ]
    layer = LSTMLayer(4, 3, forget_bias=1.0)
    i, j, f, o = np.split(kernel.T, 4)
    ours = torch.tensor(np.concatenate([i, f, j, o]), dtype=torch.float32)
    with torch.no_grad():
        layer.lstm.get_parameter("weight_ih_l0").copy_(ours[:, :4])
        layer.lstm.get_parameter("weight_hh_l0").copy_(ours[:, 4:])
        layer.lstm.get_parameter("bias_ih_l0").zero_()
        x = torch.tensor(inputs, dtype=torch.float32).transpose(0, 1)
        outputs, _ = layer(x, layer.initial_state(1))
    np.testing.assert_allclose(outputs.squeeze(1).numpy(), expected, rtol=1e-5, atol=1e-7)


def test_one_bias_is_trained_and_the_other_is_the_forget_bias() -> None:
    layer = LSTMLayer(3, 4, forget_bias=1.5)
    trained = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert trained == {"lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.bias_ih_l0"}
    constant = layer.lstm.get_parameter("bias_hh_l0").reshape(4, 4)
    assert constant.tolist() == [[0.0] * 4, [1.5] * 4, [0.0] * 4, [0.0] * 4]


def test_initialisation() -> None:
    """All uniform in [-scale, scale], the softmax's bias too; the LSTMs' biases zero."""
    model = LanguageModel(vocab_size=500, hidden_size=40, num_layers=2, forget_bias=1.0)
    model.initialise(0.1, torch.Generator().manual_seed(3))
    for name, parameter in model.named_parameters():
        if name.endswith("bias_ih_l0"):
            assert parameter.abs().max() == 0
        elif not name.endswith("bias_hh_l0"):
            assert parameter.min() >= -0.1
            assert parameter.max() <= 0.1
            assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.1)
    kernels = [layer.lstm.get_parameter("weight_hh_l0") for layer in model.recurrent.layers]
    assert not torch.equal(kernels[0], kernels[1])  # layers share nothing


def test_gradients_by_finite_differences() -> None:
    model = make_model()
    inputs, targets = make_text()
    state = tuple(
        tuple(torch.randn_like(part) for part in layer) for layer in model.initial_state(2)
    )

    def cost() -> Tensor:
        return model.nll(inputs, targets, state)[0].sum() / 2

    torch.autograd.backward(cost())
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


def test_a_uniform_model_is_as_perplexed_as_the_vocabulary_is_large() -> None:
    model = make_model()
    with torch.no_grad():
        model.softmax.weight.zero_()
        model.softmax.bias.fill_(0.7)
    nll, _ = model.nll(*make_text(), model.initial_state(2))
    assert nll.mean().exp().item() == pytest.approx(11, rel=1e-12)


def test_large_logits_stay_finite() -> None:
    """A softmax by raw exp() overflows here."""
    model = make_model()
    with torch.no_grad():
        model.softmax.bias.copy_(torch.arange(11) * 1000.0)
    nll, _ = model.nll(*make_text(), model.initial_state(2))
    assert torch.isfinite(nll).all()


def test_the_state_carries_the_text_over_the_cut() -> None:
    model = make_model()
    inputs, targets = make_text(steps=8)
    whole, last = model.nll(inputs, targets, model.initial_state(2))
    first, state = model.nll(inputs[:, :3], targets[:, :3], model.initial_state(2))
    rest, cut_last = model.nll(inputs[:, 3:], targets[:, 3:], detach_state(state))
    torch.testing.assert_close(torch.cat([first, rest], dim=1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cut_last, last, rtol=1e-12, atol=1e-12)


def test_no_gradient_crosses_a_detached_state() -> None:
    model = make_model()
    _, state = model.nll(*make_text(), model.initial_state(2))
    assert all(part.requires_grad for layer in state for part in layer)
    assert not any(part.requires_grad for layer in detach_state(state) for part in layer)


def test_a_target_is_predicted_from_the_past_alone() -> None:
    model = make_model()
    inputs, targets = make_text(batch=1, steps=6)
    before, _ = model.nll(inputs, targets, model.initial_state(1))
    changed = inputs.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 11
    after, _ = model.nll(changed, targets, model.initial_state(1))
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4:], after[:, 4:])


def test_streams_do_not_touch_each_other() -> None:
    model = make_model()
    inputs, targets = make_text(batch=3)
    together, _ = model.nll(inputs, targets, model.initial_state(3))
    for row in range(3):
        alone, _ = model.nll(inputs[row, None], targets[row, None], model.initial_state(1))
        torch.testing.assert_close(alone[0], together[row], rtol=1e-12, atol=1e-12)
