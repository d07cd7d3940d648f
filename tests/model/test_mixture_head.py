"""The mixture of softmaxes: an exact distribution, and gradients equal to autograd's."""

import math

import pytest
import torch
from torch import Tensor

from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.heads.mixture import Mixture
from ptblm.model.initializers import Initializer
from ptblm.model.kernels import linear_cross_entropy as kernel_module

V, H, E, K, T, B = 13, 4, 3, 5, 6, 2


def make_head(
    *, components: int = K, dropout: float = 0.0, fused: bool = True, scale: float = 0.8
) -> Mixture:
    head = Mixture(H, V, E, components=components, dropout=dropout, fused=fused)
    head.initialize(scale, torch.Generator().manual_seed(0))
    with torch.no_grad():
        head.latent_bias.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(3))
    return head.double()


def make_batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, H, generator=generator, dtype=torch.float64).requires_grad_()
    return x, torch.randint(V, (T, B), generator=generator)


def probabilities(head: Mixture, x: Tensor) -> Tensor:
    """The sum over components, term by term."""
    p = torch.zeros(len(x), V, dtype=x.dtype)
    prior = torch.softmax(x @ head.prior_weight.T, -1)
    for k in range(head.components):
        rows = slice(k * E, (k + 1) * E)
        latent = torch.tanh(x @ head.latent_weight[rows].T + head.latent_bias[rows])
        p = p + prior[:, k, None] * torch.softmax(latent @ head.weight.T + head.bias, -1)
    return p


def gradients(head: Mixture, *, seed: int | None = None) -> list[Tensor]:
    x, targets = make_batch()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    head.zero_grad(set_to_none=True)
    loss, nll = head.loss(x, targets, 0.5, generator)
    loss.backward()
    assert not nll.requires_grad
    assert x.grad is not None
    found = [p.grad for p in head.parameters() if p.grad is not None]
    assert len(found) == 5
    return [loss.detach(), nll, x.grad, *found]


def test_probabilities_are_those_of_the_formula() -> None:
    head, (x, targets) = make_head(), make_batch()
    x, targets = x.flatten(0, 1), targets.flatten()
    expected = probabilities(head, x).log()
    torch.testing.assert_close(head.log_probs(x), expected)
    torch.testing.assert_close(head.nll(x, targets), -expected[torch.arange(T * B), targets])


def test_fp32_probabilities_sum_to_one() -> None:
    head = Mixture(40, 10_000, 20, components=15)
    head.initialize(1.0, torch.Generator().manual_seed(0))
    x = torch.randn(8, 40, generator=torch.Generator().manual_seed(1)) * 3
    sums = head.log_probs(x).exp().sum(-1)
    assert (sums - 1).abs().max().item() < 1e-6


def test_single_component_is_a_projection_and_softmax() -> None:
    head, (x, _) = make_head(components=1), make_batch()
    x = x.flatten(0, 1)
    latent = torch.tanh(x @ head.latent_weight.T + head.latent_bias)
    expected = torch.log_softmax(latent @ head.weight.T + head.bias, -1)
    torch.testing.assert_close(head.log_probs(x), expected)


@pytest.mark.parametrize("seed", [None, 7], ids=["no dropout", "dropout"])
@pytest.mark.parametrize("logits_per_chunk", [1, V * K * 5, 10**9])
def test_chunks_do_not_change_the_result(
    logits_per_chunk: int, seed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_module, "_LOGITS_PER_CHUNK", logits_per_chunk)
    monkeypatch.setattr(kernel_module, "_MIN_ROWS", 1)
    expected = gradients(make_head(dropout=0.4, fused=False), seed=seed)
    found = gradients(make_head(dropout=0.4), seed=seed)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_gradients_are_finite_differences(fused: bool) -> None:
    head, step = make_head(fused=fused), 1e-6
    loss, _, *grads = gradients(head)
    (x, targets), parameters = make_batch(), list(head.parameters())
    for tensor, grad in zip([x, *parameters], grads, strict=True):
        direction = torch.randn(
            tensor.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64
        )
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                tensor += sign * step * direction
                losses.append(head.loss(x, targets, 0.5)[0].item())
                tensor -= sign * step * direction
        slope = (losses[0] - losses[1]) / (2 * step)
        assert slope == pytest.approx((grad * direction).sum().item(), rel=1e-6)
    assert loss.item() == pytest.approx(head.loss(x, targets, 0.5)[0].item())


def test_mask_of_latents_is_the_same_at_all_time_steps() -> None:
    """With equal features at all time steps, the losses of a token are equal iff the mask is."""
    head = make_head(dropout=0.5)
    x = torch.randn(1, B, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    targets = torch.arange(B).expand(T, B)
    draws = torch.Generator().manual_seed(2)
    first, second = (head.loss(x.expand(T, B, H), targets, 1.0, draws)[1].view(T, B) for _ in "ab")
    torch.testing.assert_close(first, first[:1].expand(T, B))
    assert not torch.allclose(first, second)
    plain = head.loss(x.expand(T, B, H), targets)[1].view(T, B)
    assert not torch.allclose(first, plain)
    torch.testing.assert_close(plain[0], head.nll(x[0], targets[0]))


def test_language_model_drops_latents_in_training() -> None:
    """The head is the only part with dropout, so its mask is the first one of the generator."""
    head = {"type": "mixture", "components": K, "dropout": 0.5}
    config = ModelConfig.model_validate({"hidden_size": H, "num_layers": 1, "head": head})
    model = build_model(config, V)
    model.initialize(Initializer("uniform", 0.8), torch.Generator().manual_seed(0))
    ids = torch.randint(V, (B, T + 1), generator=torch.Generator().manual_seed(1))
    inputs, targets, state = ids[:, :-1], ids[:, 1:], model.initial_state(B)
    features, _ = model.features(inputs, state)

    def draws() -> torch.Generator:
        return torch.Generator().manual_seed(2)

    found, _, _ = model(inputs, targets, state, draws(), scale=0.5)
    expected, _ = model.head.loss(features, targets.t(), 0.5, draws())
    undropped, _ = model.head.loss(features, targets.t(), 0.5)
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, undropped)


def test_initial_perplexity_is_the_vocabulary_size() -> None:
    head, (x, targets) = make_head(scale=1e-6), make_batch()
    nll = head.nll(x.flatten(0, 1), targets.flatten())
    assert nll.mean().item() == pytest.approx(math.log(V), abs=1e-4)


def test_parameters_of_the_published_model() -> None:
    """Yang et al. (2018) on the Penn Treebank, with one bias in each layer and no decoder bias."""
    config = ModelConfig(
        layer_sizes=[960, 960, 620],
        embedding_size=280,
        tie_embeddings=True,
        head={"type": "mixture", "components": 15},  # type: ignore[arg-type]
    )
    with torch.device("meta"):
        model = build_model(config, 10_000)
    lstm = 4 * (960 * (280 + 960 + 1) + 960 * (960 + 960 + 1) + 620 * (960 + 620 + 1))
    head = 15 * 280 * (620 + 1) + 15 * 620
    assert model.parameter_count() == 10_000 * 280 + lstm + head + 10_000


def test_bf16_gradients_are_close() -> None:
    head = make_head().float()
    x, targets = make_batch()
    losses = []
    for bf16 in (False, True):
        features = x.detach().float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, _ = head.loss(features, targets)
        loss.backward()
        assert features.grad is not None
        losses.append((loss.item(), features.grad))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.01)
    assert (losses[0][1] - losses[1][1]).norm() < 0.03 * losses[0][1].norm()
    assert losses[0][0] != losses[1][0]


def test_name_stands_for_the_head() -> None:
    head = load_config("small", ["model.head=mixture", "model.head.components=4"]).model.head
    assert head.model_dump() == {"type": "mixture", "components": 4, "dropout": 0.0}
    assert load_config("small").model.head.model_dump() == {"type": "softmax"}
