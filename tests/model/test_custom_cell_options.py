"""Options of custom cells: from the config to the keyword arguments of the class."""

import sys
from pathlib import Path
from typing import Any

import pytest

from ptblm.config.loading import load_config
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.language_model import LanguageModel

pytestmark = pytest.mark.usefixtures("trusted_cells")

CELL = """
import torch
from torch import nn
from ptblm.model.cells.cell import Cell


class Leaky(Cell):
    def __init__(self, input_size, hidden_size, alpha=0.1, *, kind="tanh"):
        super().__init__(input_size, hidden_size)
        self.alpha, self.kind = alpha, kind
        self.w = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x, state):
        (h,) = state
        h = (1 - self.alpha) * h + self.alpha * torch.tanh(self.w(torch.cat([x, h], 1)))
        return h, (h,)


class Bare(Leaky):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)


class Free(Leaky):
    def __init__(self, input_size, hidden_size, **options):
        super().__init__(input_size, hidden_size)
        self.options = options
"""


@pytest.fixture(autouse=True)
def cell_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "option_cells", raising=False)
    (tmp_path / "option_cells.py").write_text(CELL)


def build(name: str, *options: str) -> LanguageModel:
    overrides = [f"model.cell=option_cells:{name}", "model.hidden_size=4"]
    overrides += [f"model.cell.{option}" for option in options]
    return build_model(load_config("small", overrides).model, vocab_size=5)


def attributes(model: LanguageModel, name: str) -> list[Any]:
    return [getattr(layer.cell, name) for layer in model.recurrent.layers]


def test_options_become_keyword_arguments() -> None:
    model = build("Leaky", "alpha=0.5", "kind=relu")
    assert attributes(model, "alpha") == [0.5, 0.5]
    assert attributes(model, "kind") == ["relu", "relu"]
    assert attributes(build("Leaky"), "alpha") == [0.1, 0.1]


def test_a_class_can_take_any_options() -> None:
    assert attributes(build("Free", "any=true"), "options") == [{"any": True}] * 2


@pytest.mark.parametrize(
    ("name", "option", "message", "hint"),
    [
        ("Leaky", "alhpa", ", did you mean 'alpha'?", "its options are alpha, kind"),
        ("Leaky", "zeta", "", "its options are alpha, kind"),
        ("Leaky", "hidden_size", "", "its options are alpha, kind"),
        ("Bare", "alpha", "", "option_cells:Bare has no options"),
    ],
)
def test_unknown_option_is_named(name: str, option: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, f"{option}=1")
    expected = f"model.cell.{option}: option_cells:{name} does not accept the option '{option}'"
    assert caught.value.what == expected + message
    assert caught.value.hint == hint


def test_error_from_an_option_shows_the_call() -> None:
    with pytest.raises(ConfigError, match=r"Leaky\(4, 4, alpha='x'\) failed with TypeError"):
        build("Leaky", "alpha=x")
