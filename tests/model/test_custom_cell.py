"""A cell of one's own: from the documentation's page to a trained model, and what is refused."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from ptblm.config.cells import CustomCellConfig
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.cells.custom import load_cell_class, source_hash
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer
from tests.conftest import REPOSITORY, Ptblm

PAGE = (REPOSITORY / "docs" / "custom-cells.md").read_text(encoding="utf-8")
CELL, CHECKS, FASTER = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

OPTIONS = ["--data", "sample", "--set", "model.cell=page_cells:SLSTM", "--set"]
OPTIONS += ["model.hidden_size=16", "--set", "training.learning_rate=0.5", "--run-dir", "run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory outside the repository, in which one stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("page_cells", "bad_cells"):  # of another test's directory
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "page_cells.py").write_text(CELL)
    return tmp_path


def test_the_pages_cell_is_the_shipped_one(here: Path) -> None:
    """The same equations: the same outputs and gradients from the same weights."""
    ours = RecurrentLayer(SLSTMCell(3, 4)).double()
    own = RecurrentLayer(load_cell_class("page_cells:SLSTM")(3, 4)).double()
    ours.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
    weights = [ours.cell.get_parameter(f"gates.{n}") for n in ("weight_ih", "bias", "weight_hh")]
    names = ("input_to_gates.weight", "input_to_gates.bias", "state_to_gates.weight")
    with torch.no_grad():
        for name, weight in zip(names, weights, strict=True):
            own.cell.get_parameter(name).copy_(weight)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    results = []
    for layer in (ours, own):
        outputs, _ = layer(x, layer.initial_state(2))
        torch.autograd.backward(outputs.square().sum())
        results.append(outputs)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    for name, weight in zip(names, weights, strict=True):
        torch.testing.assert_close(own.cell.get_parameter(name).grad, weight.grad)


def test_the_pages_checks_pass(here: Path) -> None:
    exec(compile(CHECKS.replace("my_cells", "page_cells"), "checks.py", "exec"), {})


def test_the_pages_faster_cell_is_the_same_cell(here: Path) -> None:
    (here / "page_cells.py").write_text(CELL + FASTER)
    layers = []
    for name in ("SLSTM", "FasterSLSTM"):
        layer = RecurrentLayer(load_cell_class(f"page_cells:{name}")(3, 4))
        layer.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
        layers.append(layer)
    x = torch.randn(5, 2, 3)
    one, other = (layer(x, layer.initial_state(2))[0] for layer in layers)
    torch.testing.assert_close(one, other)


def test_trains_evaluates_and_resumes_from_the_command_line(here: Path, ptblm: Ptblm) -> None:
    """In fresh processes, from a file outside the repository."""
    trained = ptblm("train", *OPTIONS, "--set", "training.epochs=2")
    assert trained.returncode == 0, trained.stderr
    assert "page_cells:SLSTM, step by step" in trained.stderr
    table = [line.split() for line in trained.stdout.splitlines() if line.strip()[:1].isdigit()]
    first, last = (float(row[3]) for row in (table[0], table[-1]))
    assert last < first  # it learns
    evaluated = ptblm("eval", "run")
    assert evaluated.returncode == 0, evaluated.stderr
    resumed = ptblm("train", "--resume", "run", "--set", "training.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    assert "note: the file" not in resumed.stderr

    (here / "page_cells.py").write_text(CELL + "\n# changed\n")
    changed = ptblm("train", "--resume", "run", "--set", "training.epochs=4")
    assert changed.returncode == 0, changed.stderr
    assert "note: the file of page_cells:SLSTM was" in changed.stderr

    (here / "page_cells.py").unlink()
    shutil.rmtree(here / "__pycache__", ignore_errors=True)
    for command in (["eval", "run"], ["train", "--resume", "run"]):
        missing = ptblm(*command)
        assert missing.returncode == 2
        assert "no file page_cells.py is here" in missing.stderr
        assert "Traceback" not in missing.stderr


_IMPORT = "from ptblm.model.cells.cell import Cell\n"
BAD = {
    "missing": ("", "no_such_module:Cell", "no file no_such_module.py is here"),
    "other name": (CELL, "bad_cells:GRU", r"no class GRU\(Cell\) here"),
    "no cell": ("class Own:\n    pass\n", "bad_cells:Own", "no class Own"),
    "of another": (_IMPORT + "class Own(dict):\n    pass\n", "bad_cells:Own", "no class Own"),
    "replaced": (
        _IMPORT + "class Own(Cell):\n    pass\nOwn = 3\n",
        "bad_cells:Own",
        "no subclass of Cell",
    ),
    "syntax": ("x = 1\nclass Own(:\n", "bad_cells:Own", "not Python: invalid syntax"),
    "fails": (
        _IMPORT + "1 / 0\nclass Own(Cell):\n    pass\n",
        "bad_cells:Own",
        "it failed: ZeroDivisionError",
    ),
    "leaves": (
        _IMPORT + "import sys\nsys.exit(0)\nclass Own(Cell):\n    pass\n",
        "bad_cells:Own",
        "it failed: SystemExit",
    ),
    "installed code": ("", "subprocess:Popen", "no class Popen"),
    "a package": ("", "json:JSONDecoder", "no file json.py"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_cell_is_refused(name: str, here: Path) -> None:
    source, cell, message = BAD[name]
    (here / "bad_cells.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        load_cell_class(cell)


def test_a_cell_may_start_from_a_state_of_its_own(here: Path) -> None:
    source = CELL + (
        "\n    def initial_state(self, batch_size):\n"
        "        bias = self.input_to_gates.bias[: self.hidden_size]\n"
        "        return bias.repeat(batch_size, 1) + 0.5, torch.full((batch_size, 16), 0.25)\n"
    )
    (here / "page_cells.py").write_text(source)
    model = build_model(
        ModelConfig(cell=CustomCellConfig(type="page_cells:SLSTM"), hidden_size=16), vocab_size=5
    )
    h, c = model.initial_state(3)[1]
    assert h.shape == c.shape == (3, 16)
    assert h.requires_grad  # so it is learned, too
    assert bool((c == 0.25).all())


def test_a_start_of_ones_leaves_the_cells_own_alone(here: Path) -> None:
    own = "        return (self.start, self.start)\n"
    source = CELL.replace(
        "        self.state_sizes",
        "        self.register_buffer('start', torch.full((3, hidden_size), 0.25))\n"
        "        self.state_sizes",
    )
    (here / "page_cells.py").write_text(source + "\n    def initial_state(self, _):\n" + own)
    cell = load_cell_class("page_cells:SLSTM")(2, 4)
    ones = RecurrentLayer(cell, "ones").initial_state(3)
    assert all(bool((part == 1).all()) for part in ones)
    assert bool((cell.get_buffer("start") == 0.25).all())


def test_a_module_is_not_run_unless_it_defines_the_cell(here: Path) -> None:
    source = "from ptblm.model.cells.cell import Cell\nopen('ran', 'w')\nclass A: pass\n"
    (here / "bad_cells.py").write_text(source)
    with pytest.raises(ConfigError, match="no class A"):
        load_cell_class("bad_cells:A")
    assert not (here / "ran").exists()


def test_a_cell_built_on_a_shipped_one_or_on_another_is_a_cell(here: Path) -> None:
    source = "from ptblm.model.cells.lstm import LSTMCell\nclass A(LSTMCell):\n    pass\n"
    (here / "bad_cells.py").write_text(source + "class B(A):\n    pass\n")
    assert load_cell_class("bad_cells:B").__mro__[1] is load_cell_class("bad_cells:A")


MAKE = """
    def __init__(self, i, h):
        super().__init__(i, h)
        self.w = nn.Linear(i, h)
"""


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    def __init__(self):\n        pass\n", "it failed: TypeError"),
        ("    pass\n", "it has no parameters"),
        (MAKE, "it failed: NotImplementedError: Own has no step"),
        (MAKE + "    def step(self, x, s):\n        return self.w(x)[:, 1:], s\n", "[2, 15]"),
        (MAKE + "    def step(self, x, s):\n        return x, s[0]\n", "as a tuple"),
        (MAKE + "    def step(self, x, s):\n        return x, (0,)\n", "must return tensors"),
        (
            MAKE + "    def step(self, x, s):\n        return x, (s[0][:1],)\n",
            "the state is ['[2, 16] float32'], but step returns ['[1, 16] float32']",
        ),
        (
            MAKE + "    def step(self, x, s):\n        return x, (s[0].double(),)\n",
            "but step returns ['[2, 16] float64']",
        ),
    ],
)
def test_a_cell_that_does_not_work_says_so(body: str, message: str, here: Path) -> None:
    source = "from torch import nn\nfrom ptblm.model.cells.cell import Cell\nclass Own(Cell):\n"
    (here / "bad_cells.py").write_text(source + body)
    with pytest.raises(ConfigError) as error:
        build_model(
            ModelConfig(cell=CustomCellConfig(type="bad_cells:Own"), hidden_size=16), vocab_size=5
        )
    assert message in error.value.what


# What can't be done on the meta device, and draws from torch's global generator.
ODD_CELL = """
import numpy as np
import torch
from torch import nn

from ptblm.model.cells.cell import Cell


class Odd(Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.w = nn.Linear(input_size + hidden_size, hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.register_buffer("scale", torch.from_numpy(np.ones(hidden_size, np.float32)))
        self.register_buffer("shift", torch.zeros(1), persistent=False)
        self.register_buffer("noise", torch.rand(hidden_size))
        self.dropout = nn.Dropout(0.3)

    def step(self, x, state):
        (h,) = state
        h = torch.tanh(self.norm(self.w(torch.cat([x, h], 1)))) * self.scale + self.shift
        if h.abs().max() > 0.9:
            h = h * 0.9
        return self.dropout(h) + 0.01 * self.noise, (h,)
"""


def test_an_odd_cell_evaluates_and_resumes_exactly(here: Path, ptblm: Ptblm) -> None:
    (here / "page_cells.py").write_text(ODD_CELL.replace("Odd", "SLSTM"))
    for run, epochs in (("whole", 2), ("cut", 1)):
        trained = ptblm("train", *OPTIONS[:-1], run, "--set", f"training.epochs={epochs}")
        assert trained.returncode == 0, trained.stderr
    resumed = ptblm("train", "--resume", "cut", "--set", "training.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    results = [json.loads((here / run / "result.json").read_text()) for run in ("whole", "cut")]
    for result in results:
        del result["training_seconds"]
    assert results[0] == results[1]
    scores = [ptblm("eval", "whole", "--json").stdout for _ in range(2)]
    assert scores[0] == scores[1]  # dropout is for training
    assert json.loads(scores[0])["perplexity"] == pytest.approx(results[0]["test_perplexity"])


def test_the_source_hash_follows_the_file(here: Path) -> None:
    before = source_hash("page_cells:SLSTM")
    (here / "page_cells.py").write_text(CELL + "\n")
    assert len(before) == 64
    assert source_hash("page_cells:SLSTM") not in ("", before)
    assert source_hash("nowhere:Cell") == ""
