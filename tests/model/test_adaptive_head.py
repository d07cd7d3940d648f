"""The adaptive softmax: equal to torch's, exact, with gradients for every cluster."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ptblm.config.heads import AdaptiveConfig
from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.evaluation.scorer import default_chunk_steps
from ptblm.evaluation.token_scores import Measures, token_scores
from ptblm.model.build import build_model
from ptblm.model.heads import adaptive
from ptblm.model.heads.adaptive import AdaptiveSoftmax
from ptblm.model.kernels import linear_cross_entropy as kernel_module

V, H, T, B = 40, 16, 9, 4
CUTOFFS = [6, 15]


def make_head(*, fused: bool = True) -> AdaptiveSoftmax:
    head = AdaptiveSoftmax(H, V, CUTOFFS, 2.0, fused=fused)
    head.initialize(0.8, torch.Generator().manual_seed(0))
    return head.double()


def make_batch(vocab_size: int = V) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(T, B, H, generator=generator, dtype=torch.float64).requires_grad_()
    return x, torch.randint(vocab_size, (T, B), generator=generator)


def torch_module(head: AdaptiveSoftmax) -> nn.AdaptiveLogSoftmaxWithLoss:
    """Torch's module with the same weights."""
    module = nn.AdaptiveLogSoftmaxWithLoss(H, V, CUTOFFS, 2.0, head_bias=True).double()
    with torch.no_grad():
        for ours, theirs in zip(head.parameters(), torch_parameters(module), strict=True):
            theirs.copy_(ours)
    return module


def torch_parameters(module: nn.AdaptiveLogSoftmaxWithLoss) -> list[Tensor]:
    pairs = [tuple(tail.parameters()) for tail in module.tail]
    first, second = ([pair[index] for pair in pairs] for index in (0, 1))
    return [module.head.weight, module.head.bias, *first, *second]


def gradients(head: AdaptiveSoftmax, vocab_size: int = V) -> list[Tensor]:
    """Loss, nll, and the gradients of the features and of all parameters."""
    x, targets = make_batch(vocab_size)
    loss, nll = head.loss(x, targets, 0.5)
    loss.backward()
    assert not nll.requires_grad
    found = [x.grad, *(parameter.grad for parameter in head.parameters())]
    assert len(found) == 7
    return [loss.detach(), nll, *(grad for grad in found if grad is not None)]


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_values_and_gradients_are_those_of_torch(fused: bool) -> None:
    head = make_head(fused=fused)
    module, (x, targets) = torch_module(head), make_batch()
    log_p = module(x.flatten(0, 1), targets.flatten()).output
    loss = -0.5 * log_p.sum()
    loss.backward()
    assert x.grad is not None
    expected = [loss, -log_p, x.grad, *(p.grad for p in torch_parameters(module))]
    for ours, theirs in zip(gradients(head), expected, strict=True):
        assert theirs is not None
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=1e-12)
    features, _ = make_batch()
    theirs = module.log_prob(features.flatten(0, 1)).view(T, B, V)
    torch.testing.assert_close(head.log_probs(features), theirs)


def test_fp32_probabilities_sum_to_one() -> None:
    head = AdaptiveSoftmax(40, 10_000, [1585, 3981], 4.0)
    head.initialize(1.0, torch.Generator().manual_seed(0))
    x = torch.randn(8, 40, generator=torch.Generator().manual_seed(1)) * 3
    sums = head.log_probs(x).double().exp().sum(-1)
    assert (sums - 1).abs().max().item() < 1e-6


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """One position at a time, in the loss and in the evaluation."""
    expected = gradients(make_head())
    monkeypatch.setattr(kernel_module, "_LOGITS_PER_CHUNK", 1)
    monkeypatch.setattr(kernel_module, "_MIN_ROWS", 1)
    monkeypatch.setattr(adaptive, "_ELEMENTS", 1)
    for fused in (True, False):
        for ours, theirs in zip(gradients(make_head(fused=fused)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "unfused"])
def test_cluster_without_target_has_zero_gradients(fused: bool) -> None:
    """Not None: processes that sum their gradients need one for every parameter."""
    *_, first, second, weight, last = gradients(make_head(fused=fused), CUTOFFS[1])
    assert first.count_nonzero()
    assert weight.count_nonzero()
    assert not second.count_nonzero()
    assert not last.count_nonzero()
    assert second.shape == (4, H)
    assert last.shape == (V - CUTOFFS[1], 4)


def test_nll_is_that_of_log_probs() -> None:
    head, (x, targets) = make_head(), make_batch()
    x, targets = x.flatten(0, 1).detach(), targets.flatten()
    expected = -head.log_probs(x).gather(1, targets[:, None]).squeeze(1)
    torch.testing.assert_close(head.nll(x, targets), expected)
    for measures in (Measures(), Measures(entropy=True)):
        with torch.inference_mode():
            scores = token_scores(head, x, targets, measures)
        torch.testing.assert_close(torch.from_numpy(scores.nll), expected)


def test_bf16_gradients_are_close() -> None:
    losses = []
    for bf16 in (False, True):
        head, (x, targets) = make_head().float(), make_batch()
        features = x.detach().float().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss, nll = head.loss(features, targets)
        assert nll.dtype == torch.float32
        loss.backward()
        assert features.grad is not None
        losses.append((loss.item(), features.grad))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=0.01)
    assert (losses[0][1] - losses[1][1]).norm() < 0.03 * losses[0][1].norm()
    assert losses[0][0] != losses[1][0]


def test_sizes_are_divided_and_at_least_one() -> None:
    head = AdaptiveSoftmax(20, 100, [10, 20, 50], 4.0)
    assert [list(weight.shape) for weight in head.projections] == [[5, 20], [1, 20], [1, 20]]
    assert [list(weight.shape) for weight in head.cluster_weights] == [[10, 5], [30, 1], [50, 1]]


def test_default_cutoffs_fit_every_vocabulary() -> None:
    config = AdaptiveConfig()
    for size in [*range(1, 300), 100_000, 1_000_000]:
        cutoffs = [0, *config.cutoffs_for(size), size]
        assert cutoffs == sorted(set(cutoffs))
    assert config.cutoffs_for(10_000) == [1585, 3981]
    assert config.cutoffs_for(1) == []
    head = AdaptiveSoftmax(H, 1, [], 4.0)
    nn.init.ones_(head.weight)
    assert head.log_probs(torch.ones(3, H)).tolist() == [[0.0]] * 3


def test_parameters_of_a_large_vocabulary() -> None:
    """The sum that the sizes of the softmaxes imply; an exact softmax has 162,750,000."""
    config = ModelConfig.model_validate(
        {"hidden_size": 650, "head": {"type": "adaptive", "cutoffs": [20_000, 60_000]}}
    )
    with torch.device("meta"):
        model = build_model(config, 250_000)
    sizes = [20_002 * (650 + 1), 162 * (650 + 40_000), 40 * (650 + 190_000)]
    assert sum(p.numel() for p in model.head.parameters()) == sum(sizes) == 27_232_602


def test_evaluation_reads_large_chunks() -> None:
    """The chunk is that of the shortlist, as most targets are in it."""
    config = ModelConfig.model_validate({"hidden_size": 8, "head": "adaptive"})
    with torch.device("meta"):
        model = build_model(config, 250_000)
    assert default_chunk_steps(model) == 2**22 // (20_814 + 2)


def test_keys_of_the_config() -> None:
    head = load_config("small", ["model.head=adaptive", "model.head.div_value=2"]).model.head
    assert head.model_dump() == {"type": "adaptive", "cutoffs": None, "div_value": 2.0}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("head: {type: adaptive, cutoffs: [9, 9]}", "2:26: model.head.cutoffs: expected incr"),
        ("head: {type: adaptive, cutoffs: [0, 9]}", "2:36: model.head.cutoffs.0: must be greater"),
        ("head: {type: adaptive, cutoffs: []}", "2:26: model.head.cutoffs: expected a list"),
        ("head: {type: adaptive, cutoffs: 9}", "2:26: model.head.cutoffs: expected a list"),
        (f"head: {{type: adaptive, cutoffs: {[*range(1, 22)]}}}", "expected at most 20 values"),
        ("head: {type: adaptive, div_value: 0.5}", "2:26: model.head.div_value: must be greater"),
        ("head: {type: mixture, cutoffs: [9]}", "it is an option of adaptive"),
        ("head: adaptive\n  tie_embeddings: true", "3:3: model.tie_embeddings: cannot be used"),
        ("head: adaptive\n  softmax_bias: log_unigram", "3:3: model.softmax_bias: cannot be used"),
    ],
)
def test_wrong_keys_are_located(keys: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"model:\n  {keys}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert message in str(caught.value)


def test_cutoffs_beyond_the_vocabulary_are_rejected() -> None:
    config = ModelConfig.model_validate({"head": {"type": "adaptive", "cutoffs": [5, 40]}})
    build_model(config, 41)
    with pytest.raises(ConfigError, match=r"model.head.cutoffs: must be less .* 40, got 40"):
        build_model(config, 40)
