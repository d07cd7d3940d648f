"""What the head sees: a projection of the last layer, or the sum of all layers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.interop.tensorflow import load_tensorflow_weights, to_tensorflow_weights
from ptblm.model.language_model import LanguageModel

IDS = torch.randint(11, (3, 6), generator=torch.Generator().manual_seed(2))


def make_model(*, fused: bool = True, **keys: Any) -> LanguageModel:
    model = build_model(ModelConfig(hidden_size=4, num_layers=3, **keys), 11, fused=fused)
    model.initialize(Initializer("uniform", 0.7), torch.Generator().manual_seed(1))
    return model.double()


def loss_of(model: LanguageModel, seed: int | None = 3) -> Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    loss: Tensor = model(IDS[:, :-1], IDS[:, 1:], model.initial_state(3), generator)[0]
    return loss


def test_projection_is_a_linear_map_without_bias() -> None:
    model, plain = make_model(output_projection=7), make_model()
    plain.load_state_dict(
        {
            n: t
            for n, t in model.state_dict().items()
            if n.split(".")[0] in ("embedding", "recurrent")
        },
        strict=False,
    )
    features, _ = model.features(IDS, model.initial_state(3))
    below, _ = plain.features(IDS, plain.initial_state(3))
    assert model.projection is not None
    assert model.projection.shape == (7, 4)
    torch.testing.assert_close(features, below @ model.projection.T)
    assert model.parameter_count() - plain.parameter_count() == 7 * 4 + 11 * (7 - 4)


def test_head_sees_the_sum_of_all_layers() -> None:
    model = make_model(sum_layers=True)
    x, outputs = model.embedding(IDS.t()), []
    for layer, state in zip(model.recurrent.layers, model.initial_state(3), strict=True):
        x, _ = layer(x, state)
        outputs.append(x)
    features, _ = model.features(IDS, model.initial_state(3))
    torch.testing.assert_close(features, outputs[0] + outputs[1] + outputs[2])


def test_dropout_is_applied_to_the_sum() -> None:
    """The rest of the features is twice the sum of the layers, which have no dropout."""
    model = make_model(sum_layers=True, dropout={"output": 0.5})
    dropped, _ = model.features(IDS, model.initial_state(3), torch.Generator().manual_seed(3))
    plain, _ = model.features(IDS, model.initial_state(3))
    kept = dropped != 0
    assert 0.3 < kept.double().mean().item() < 0.7
    torch.testing.assert_close(dropped[kept], 2 * plain[kept])


CASES: dict[str, dict[str, Any]] = {
    "sum": {"sum_layers": True},
    "projection": {"output_projection": 7},
    "sizes": {"layer_sizes": [4, 2, 3]},
    "tied": {"tie_embeddings": True, "embedding_size": 7, "output_projection": 7},
    "mixture": {
        "head": {"type": "mixture", "components": 3, "dropout": 0.3},
        "tie_embeddings": True,
        "embedding_size": 6,
        "sum_layers": True,
    },
    "adaptive": {"head": {"type": "adaptive", "cutoffs": [4, 7], "div_value": 2.0}},
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite_differences(case: str) -> None:
    model, step = make_model(dropout=0.2, **CASES[case]), 1e-6
    loss_of(model).backward()
    for name, parameter in model.named_parameters():
        direction = torch.randn(
            parameter.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64
        )
        losses = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter.add_(sign * step * direction)
                losses.append(loss_of(model).item())
                parameter.sub_(sign * step * direction)
        assert parameter.grad is not None
        expected = (losses[0] - losses[1]) / (2 * step)
        found = (parameter.grad * direction).sum().item()
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize("case", CASES)
def test_unfused_loss_and_gradients_are_equal(case: str) -> None:
    models = [make_model(dropout=0.2, fused=fused, **CASES[case]) for fused in (True, False)]
    for model in models:
        loss_of(model).backward()
    torch.testing.assert_close(loss_of(models[0]), loss_of(models[1]))
    for one, two in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one.grad, two.grad)


@pytest.mark.parametrize("case", CASES)
def test_nll_is_that_of_log_probs(case: str) -> None:
    model = make_model(**CASES[case])
    nll, _ = model.nll(IDS[:, :-1], IDS[:, 1:], model.initial_state(3))
    features, _ = model.features(IDS[:, :-1], model.initial_state(3))
    log_probs = model.head.log_probs(features.flatten(0, 1)).view(5, 3, 11)
    expected = -log_probs.gather(2, IDS[:, 1:].t().unsqueeze(-1)).squeeze(-1).t()
    torch.testing.assert_close(nll, expected)
    torch.testing.assert_close(loss_of(model, None), nll.sum())


@pytest.mark.parametrize("case", [case for case in CASES if case != "sizes"])
def test_tensorflow_has_no_equivalent(case: str) -> None:
    model = make_model(**CASES[case])
    with pytest.raises(TypeError, match="no tied embedding"):
        to_tensorflow_weights(model, model.state_dict())
    with pytest.raises(TypeError, match="no tied embedding"):
        load_tensorflow_weights(model, {})


def test_layers_of_different_sizes_have_no_sum() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("small", ["model.sum_layers=true", "model.layer_sizes=[200,5]"])
    message = "model.sum_layers: needs layers of one size, not [200, 5]"
    assert str(caught.value).endswith(message)
