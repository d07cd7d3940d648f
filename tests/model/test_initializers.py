"""Initializers: the distributions of PyTorch and of LeCun et al."""

import math

import pytest
import torch
from torch import nn

from ptblm.config.model import ModelConfig
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer, InitializerKind
from ptblm.model.language_model import LanguageModel


def make_model(kind: InitializerKind, **keys: object) -> LanguageModel:
    config = ModelConfig(layer_sizes=[300, 100], embedding_size=50, **keys)  # type: ignore[arg-type]
    model = build_model(config, 20)
    model.initialize(Initializer(kind, 0.05), torch.Generator().manual_seed(1))
    return model


@pytest.mark.parametrize("layer", [0, 1])
def test_pytorch_has_the_range_of_torch(layer: int) -> None:
    affine = next(make_model("pytorch").recurrent.layers[layer].cell.children())
    torch.manual_seed(0)
    theirs = [nn.LSTM(50, 300), nn.LSTM(300, 100)][layer]
    for ours, name in [(affine.weight_ih, "weight_ih_l0"), (affine.weight_hh, "weight_hh_l0")]:
        expected = getattr(theirs, name)
        assert isinstance(ours, torch.Tensor)
        assert ours.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=1e-3)
        assert ours.std().item() == pytest.approx(expected.std().item(), rel=0.02)
        assert ours.abs().max().item() <= 1 / math.sqrt(300 if layer == 0 else 100)


def test_pytorch_counts_the_units_of_a_projected_layer() -> None:
    model = make_model("pytorch", cell={"projection_size": 10})
    torch.manual_seed(0)
    theirs = nn.LSTM(50, 300, proj_size=10)
    ours = next(model.recurrent.layers[0].cell.children()).weight_hh
    assert isinstance(ours, torch.Tensor)
    largest = theirs.state_dict()["weight_hh_l0"].abs().max().item()
    assert ours.abs().max().item() == pytest.approx(largest, rel=1e-2)


@pytest.mark.parametrize(("layer", "inputs"), [(0, [50, 300]), (1, [300, 100])])
def test_lecun_normal_has_a_variance_of_one_over_fan_in(layer: int, inputs: list[int]) -> None:
    affine = next(make_model("lecun_normal").recurrent.layers[layer].cell.children())
    for weight, fan_in in zip((affine.weight_ih, affine.weight_hh), inputs, strict=True):
        assert isinstance(weight, torch.Tensor)
        assert weight.var().item() == pytest.approx(1 / fan_in, rel=0.03)
        # Truncated at two standard deviations of the normal distribution before truncation.
        scaled = weight * math.sqrt(fan_in)
        assert 2.2 < scaled.abs().max().item() <= 2 / 0.8796
        # A uniform distribution would have 1.8, and a normal distribution 3.
        kurtosis = (scaled**4).mean() / (scaled**2).mean() ** 2
        assert kurtosis.item() == pytest.approx(2.37, abs=0.1)


@pytest.mark.parametrize("kind", ["pytorch", "lecun_normal"])
def test_embedding_and_head_stay_uniform(kind: InitializerKind) -> None:
    model = make_model(kind)
    for weight in (model.embedding.weight, model.head.weight):
        assert 0.045 < weight.abs().max().item() <= 0.05
