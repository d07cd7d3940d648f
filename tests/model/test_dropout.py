"""Dropout: where it applies, and its expectation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.backend.randomness import StepGenerator, seed_generators
from ptblm.config.dropout import DropoutConfig
from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from ptblm.model.layers import dropout as dropout_module
from ptblm.model.layers.dropout import dropout, dropout_mask, stream_mask, word_dropout


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.65])
def test_expectation_is_preserved(rate: float) -> None:
    x = torch.ones(400, 500)
    dropped = dropout(x, rate, generator())
    # The rate is rounded to a multiple of 1/65536.
    values = sorted(set(dropped.flatten().tolist()))
    assert values == pytest.approx([0.0, 1 / (1 - rate)], rel=3e-5)
    assert (dropped == 0).float().mean().item() == pytest.approx(rate, abs=0.005)
    assert dropped.mean().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rate", [1e-6, 1e-3, 0.01, 0.31, 0.5, 0.65, 0.9, 0.99])
def test_expectation_is_exact_over_all_random_bits(
    rate: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value of 16 bits is drawn once."""
    every = torch.arange(2**16).sub_(2**15).to(torch.int16).view(torch.int64)
    monkeypatch.setattr(torch.Tensor, "random_", lambda words, *_, **__: words.copy_(every))
    mask = dropout_mask(torch.empty(2**8, 2**8, dtype=dtype), rate, generator())
    assert mask.shape == (2**8, 2**8)
    assert mask.double().mean().item() == pytest.approx(1, abs=2**-23)
    assert (mask == 0).double().mean().item() == pytest.approx(rate, abs=2**-17)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_reduced_precision_preserves_the_expectation(dtype: torch.dtype) -> None:
    """Each product is rounded, but the scale is not. In bf16, 1 / 0.69 would be 0.3% larger."""
    x = torch.rand(300, 20, 50, generator=generator(1)).to(dtype)
    dropped = dropout(x, 0.31, generator())
    assert dropped.dtype == dtype
    kept = dropped != 0
    scale = dropped[kept].double().sum() / x[kept].double().sum()
    assert scale.item() == pytest.approx(1 / 0.69, rel=1e-4)


def test_every_time_step_has_its_own_mask() -> None:
    masks = dropout(torch.ones(20, 3, 50), 0.5, generator())
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 20


def test_no_generator_or_zero_rate_is_the_identity() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.5, None) is x
    assert dropout(x, 0.0, generator()) is x


def test_generator_determines_the_mask() -> None:
    x = torch.ones(10, 10)
    assert torch.equal(dropout(x, 0.5, generator(1)), dropout(x, 0.5, generator(1)))
    assert not torch.equal(dropout(x, 0.5, generator(1)), dropout(x, 0.5, generator(2)))


def test_locked_mask_is_the_same_at_every_time_step() -> None:
    """And differs between streams, features and calls."""
    source, x = generator(), torch.ones(20, 3, 50)
    first, second = (dropout(x, 0.5, source, locked=True) for _ in range(2))
    assert torch.equal(first, first[:1].expand_as(first))
    assert len({tuple(stream.tolist()) for stream in first[0]}) == 3
    assert not torch.equal(first, second)
    many = dropout(torch.ones(2, 400, 500), 0.3, source, locked=True)
    assert many.mean().item() == pytest.approx(1, abs=0.01)


def step_generator(streams: int, seed: int = 3) -> StepGenerator:
    """As a training step seeds it."""
    source = StepGenerator(torch.device("cpu"), streams)
    seed_generators(source, seed)
    return source


def assert_distinct(masks: Tensor) -> None:
    """Tests that no two masks of zeros and one other value are equal."""
    assert len(masks.flatten(1).unique(dim=0)) == len(masks)
    assert masks.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "fresh"])
def test_each_stream_of_a_training_step_has_its_own_masks(locked: bool) -> None:
    """Standard error of the mean of a locked mask of 20 streams and 1000 features: 0.005."""
    source, x = step_generator(20), torch.ones(6, 20, 1000)
    masks = dropout(x, 0.3, source, locked=locked)
    assert torch.equal(masks, masks[:1].expand_as(masks)) == locked
    assert_distinct(masks[0])
    if not locked:
        assert_distinct(masks.flatten(0, 1))  # of all time steps of all streams
    assert_distinct(torch.cat([masks[0], dropout(x, 0.3, source, locked=locked)[0]]))


def test_mask_of_the_hidden_state_differs_between_streams_and_steps() -> None:
    like = torch.empty(20, 1000)
    source = step_generator(20)
    masks = [stream_mask(like, 0.3, source), stream_mask(like, 0.3, source)]
    assert_distinct(torch.cat([*masks, stream_mask(like, 0.3, step_generator(20, seed=4))]))
    assert torch.equal(masks[0], stream_mask(like, 0.3, step_generator(20)))


def test_word_has_one_fate_in_a_batch() -> None:
    """Whole vectors are dropped, the same for all occurrences, and the others are scaled."""
    ids = torch.randint(1000, (35, 200), generator=generator(1))
    x = torch.ones(35, 200, 4)
    dropped = word_dropout(x, ids, 1000, 0.25, generator())
    vectors = torch.cat([ids[..., None], dropped], dim=-1).flatten(0, 1).unique(dim=0)
    assert len(vectors) == len(ids.unique())
    assert torch.equal(vectors[:, 1:], vectors[:, 1:2].expand(-1, 4))
    values = vectors[:, 1].unique().tolist()
    assert values == pytest.approx([0, 4 / 3], rel=3e-5)
    assert (vectors[:, 1] > 0).double().mean().item() == pytest.approx(0.75, abs=0.05)
    assert word_dropout(x, ids, 1000, 0.25, None) is x


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (0.4, [((5, 2, 3), 0.4), ((5, 2, 4), 0.4), ((5, 2, 4), 0.4)]),
        (
            {"input": 0.1, "between": 0.2, "output": 0.3},
            [((5, 2, 3), 0.1), ((5, 2, 4), 0.2), ((5, 2, 4), 0.3)],
        ),
        (
            {"input": 0.1, "between": 0.2, "output": 0.3, "locked": True},
            [((1, 2, 3), 0.1), ((1, 2, 4), 0.2), ((1, 2, 4), 0.3)],
        ),
        (
            {"output": 0.3, "embedding": 0.2, "recurrent_weights": 0.1, "recurrent_state": 0.5},
            [((7,), 0.2), *[((16, 4), 0.1), ((2, 4), 0.5)] * 2, ((5, 2, 4), 0.3)],
        ),
    ],
)
def test_masks_are_drawn_in_a_fixed_order(
    config: Any, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the one after the last layer, before the softmax, medium overfits."""
    seen: list[tuple[tuple[int, ...], float]] = []

    draw = dropout_module._kept

    def spy(like: Tensor, rate: float, source: torch.Generator) -> tuple[Tensor, float]:
        seen.append((tuple(like.shape), rate))
        return draw(like, rate, source)

    monkeypatch.setattr(dropout_module, "_kept", spy)
    model = make_model(dropout=config)
    ids = torch.zeros(2, 5, dtype=torch.long)
    model(ids, ids, model.initial_state(2), generator())
    assert seen == expected


def make_model(**options: Any) -> LanguageModel:
    sizes = {"hidden_size": 4, "num_layers": 2, "embedding_size": 3}
    model = build_model(ModelConfig.model_validate({**sizes, **options}), vocab_size=7)
    model.initialize(Initializer("uniform", 0.5), generator())
    return model


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_dropped_words_have_no_gradient_as_inputs(sparse: bool) -> None:
    model = make_model(dropout={"embedding": 0.5})
    model.embedding.sparse = sparse
    ids = torch.arange(7).repeat(2, 1)
    model(ids, ids, model.initial_state(2), generator())[0].backward()
    gradient = model.embedding.weight.grad
    assert gradient is not None
    assert gradient.is_sparse == sparse
    is_dropped = dropout_mask(torch.empty(7), 0.5, generator()) == 0
    assert 0 < is_dropped.sum() < 7
    assert torch.equal((gradient.to_dense() == 0).all(dim=1), is_dropped)


def test_words_are_not_dropped_from_a_tied_softmax() -> None:
    """A dropped word has the gradient of the softmax only, which sees the whole table."""
    sizes: dict[str, Any] = {"embedding_size": 4, "tie_embeddings": True}
    model = make_model(dropout={"embedding": 0.5}, **sizes)
    plain = make_model(**sizes)
    ids = torch.arange(7).repeat(2, 1)
    is_dropped = dropout_mask(torch.empty(7), 0.5, generator()) == 0
    features, _ = model.features(ids, model.initial_state(2), generator())
    with torch.no_grad():
        plain.embedding.weight.mul_(dropout_mask(torch.empty(7), 0.5, generator())[:, None])
    expected, _ = plain.features(ids, plain.initial_state(2))
    torch.testing.assert_close(features, expected)  # as inputs, the words are dropped
    loss, nll, _ = model(ids, ids, model.initial_state(2), generator())
    table = model.embedding.weight.detach().clone().requires_grad_()
    logits = features.detach() @ table.t() + model.head.bias.detach()
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), ids.t().flatten(), reduction="none"
    )
    torch.testing.assert_close(nll.mean(), losses.mean().detach())
    loss.backward()
    losses.sum().backward()
    gradient, of_softmax = model.embedding.weight.grad, table.grad
    assert gradient is not None
    assert of_softmax is not None
    is_equal = torch.isclose(gradient, of_softmax, rtol=1e-5, atol=1e-6).all(dim=1)
    assert 0 < is_dropped.sum() < 7
    assert torch.equal(is_equal, is_dropped)


def test_hidden_state_is_never_dropped() -> None:
    """The carried state contains no zeros."""
    model = build_model(
        ModelConfig(hidden_size=64, num_layers=1, dropout=DropoutConfig.everywhere(0.9)), 7
    )
    model.initialize(Initializer("uniform", 0.5), generator())
    ids = torch.zeros(2, 5, dtype=torch.long)
    _, _, state = model(ids, ids, model.initial_state(2), generator())
    ((h, c),) = state
    assert (h != 0).all()
    assert (c != 0).all()
