"""The examples reach the results that they describe."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from ptblm.config.sweep_loading import load_sweep
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.layers.recurrent import RecurrentLayer

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def running_sum() -> ModuleType:
    spec = importlib.util.spec_from_file_location("running_sum", EXAMPLES / "running_sum.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sweep_can_be_loaded() -> None:
    sweep = load_sweep(EXAMPLES / "short-speedrun.yaml")
    assert sweep.config({}).training.epochs == 2
    assert len(sweep.parameters) == 3


def test_linear_rnn_learns_the_exact_sum(running_sum: ModuleType) -> None:
    """The only exact solution is w = u = 1 and b = 0."""
    layer = RecurrentLayer(RNNCell(1, 1, activation="linear"))
    errors = running_sum.train(layer, nn.Identity(), steps=400, learning_rate=0.02)
    assert errors[0] > 1
    assert errors[-1] < 1e-6
    weights = [parameter.item() for parameter in layer.cell.parameters()]
    assert weights == pytest.approx([1, 1, 0], abs=1e-3)


def test_slstm_learns_the_sums(running_sum: ModuleType) -> None:
    """The error is below 1 % of the variance of the sums, 31 / 6."""
    torch.manual_seed(0)
    errors = running_sum.train(
        RecurrentLayer(SLSTMCell(1, 32)), nn.Linear(32, 1), steps=600, learning_rate=0.02
    )
    assert sum(errors[-20:]) / 20 < 31 / 6 / 100
