"""Custom cells: the code of docs/custom-cells.md, training from the command line, and errors."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from ptblm.config.cells import CustomCellConfig
from ptblm.config.loading import load_config
from ptblm.config.model import ModelConfig
from ptblm.errors import ConfigError
from ptblm.model.build import build_model
from ptblm.model.cells.custom import load_cell_class, source_hash
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.initializers import Initializer
from ptblm.model.layers.recurrent import RecurrentLayer
from ptblm.model.layers.weight_drop import recurrent_weights
from tests.conftest import REPOSITORY, Ptblm

pytestmark = pytest.mark.usefixtures("trusted_cells")

PAGE = (REPOSITORY / "docs" / "custom-cells.md").read_text(encoding="utf-8")
CELL, WITH_OPTION, CHECKS, FASTER, AFFINE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)

OPTIONS = ["--data", "sample", "--set", "model.cell=page_cells:SLSTM", "--set"]
OPTIONS += ["model.hidden_size=16", "--set", "training.learning_rate=0.5"]
OPTIONS += ["--set", "training.batch_size=100", "--run-dir", "run"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory outside the repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("page_cells", "bad_cells"):  # loaded by another test
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "page_cells.py").write_text(CELL)
    return tmp_path


def test_documented_cell_equals_the_built_in_cell(here: Path) -> None:
    """With the same weights, outputs and gradients are equal."""
    built_in = RecurrentLayer(SLSTMCell(3, 4)).double()
    custom = RecurrentLayer(load_cell_class("page_cells:SLSTM")(3, 4)).double()
    built_in.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
    weights = [
        built_in.cell.get_parameter(f"gates.{n}") for n in ("weight_ih", "bias", "weight_hh")
    ]
    names = ("input_to_gates.weight", "input_to_gates.bias", "state_to_gates.weight")
    with torch.no_grad():
        for name, weight in zip(names, weights, strict=True):
            custom.cell.get_parameter(name).copy_(weight)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    results = []
    for layer in (built_in, custom):
        outputs, _ = layer(x, layer.initial_state(2))
        torch.autograd.backward(outputs.square().sum())
        results.append(outputs)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    for name, weight in zip(names, weights, strict=True):
        torch.testing.assert_close(custom.cell.get_parameter(name).grad, weight.grad)


def test_documented_checks_pass(here: Path) -> None:
    exec(compile(CHECKS.replace("my_cells", "page_cells"), "checks.py", "exec"), {})


@pytest.mark.parametrize("name", ["FasterSLSTM", "AffineSLSTM"])
def test_other_documented_cells_equal_the_first_one(here: Path, name: str) -> None:
    (here / "page_cells.py").write_text(CELL + FASTER + AFFINE)
    layers = []
    for cell in ("SLSTM", name):
        layer = RecurrentLayer(load_cell_class(f"page_cells:{cell}")(3, 4))
        layer.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
        layers.append(layer)
    x = torch.randn(5, 2, 3)
    first, other = (layer(x, layer.initial_state(2))[0] for layer in layers)
    torch.testing.assert_close(first, other)
    assert len(recurrent_weights(layers[1])) == (name == "AffineSLSTM")


def test_documented_option_is_set_by_config_and_command_line(here: Path) -> None:
    (here / "page_cells.py").write_text(CELL + WITH_OPTION)
    file = here / "my.yaml"
    file.write_text(CONFIG.replace("my_cells", "page_cells"))
    command = next(line for line in PAGE.splitlines() if "model.cell.alpha" in line)
    overrides = re.findall(r"--set (\S+)", command.replace("my_cells", "page_cells"))
    assert yaml.safe_load(CONFIG)["model"]["cell"]["alpha"] == 0.5
    for config in (load_config(str(file), []), load_config("small", overrides)):
        layers = build_model(config.model, vocab_size=5).recurrent.layers
        assert [layer.cell.alpha for layer in layers] == [0.5, 0.5]
    cell, state = layers[0].cell, tuple(torch.randn(2, 3, 200))
    x = torch.randn(3, 200)
    without, _ = load_cell_class("page_cells:SLSTM").step(cell, x, state)
    output, _ = cell.step(x, state)
    torch.testing.assert_close(output, (state[0] + without) / 2)


def test_commands_load_the_cell_from_the_current_directory(here: Path, ptblm: Ptblm) -> None:
    trained = ptblm("train", *OPTIONS, "--set", "training.epochs=2")
    assert trained.returncode == 0, trained.stderr
    assert "page_cells:SLSTM, unfused" in trained.stderr
    assert re.search("note: running .*page_cells.py, which defines the cell", trained.stderr)
    table = [line.split() for line in trained.stdout.splitlines() if line.strip()[:1].isdigit()]
    first, last = (float(row[3]) for row in (table[0], table[-1]))
    assert last < first  # it learns
    evaluated = ptblm("eval", "run")
    assert evaluated.returncode == 0, evaluated.stderr
    resumed = ptblm("train", "--resume", "run", "--set", "training.epochs=3")
    assert resumed.returncode == 0, resumed.stderr
    version = source_hash("page_cells:SLSTM")[:12]
    assert version not in resumed.stderr

    (here / "page_cells.py").write_text(CELL + "\n# changed\n")
    more = ["train", "--resume", "run", "--set", "training.epochs=4"]
    changed = ptblm(*more)
    assert changed.returncode == 4, changed.stderr
    assert "pass --cell page_cells:SLSTM to run it" in changed.stderr
    changed = ptblm(*more, "--cell", "page_cells:SLSTM")
    assert changed.returncode == 0, changed.stderr
    assert re.search(f"note: .*page_cells:SLSTM.*{version}", changed.stderr)

    (here / "page_cells.py").unlink()
    shutil.rmtree(here / "__pycache__", ignore_errors=True)
    for command in (["eval", "run"], ["train", "--resume", "run"]):
        missing = ptblm(*command)
        assert missing.returncode == 4
        assert "no file page_cells.py in the current directory" in missing.stderr
        assert "Traceback" not in missing.stderr


_IMPORT = "from ptblm.model.cells.cell import Cell\n"
BAD = {
    "missing": ("", "no_such_module:Cell", "no file no_such_module.py in the current directory"),
    "other name": (CELL, "bad_cells:GRU", r"not define a class GRU\(Cell\)"),
    "no cell": ("class Own:\n    pass\n", "bad_cells:Own", "not define a class Own"),
    "other base class": (
        _IMPORT + "class Own(dict):\n    pass\n",
        "bad_cells:Own",
        "not define a class Own",
    ),
    "replaced": (
        _IMPORT + "class Own(Cell):\n    pass\nOwn = 3\n",
        "bad_cells:Own",
        "not a subclass of Cell",
    ),
    "syntax": ("x = 1\nclass Own(:\n", "bad_cells:Own", "not valid Python: invalid syntax"),
    "fails": (
        _IMPORT + "1 / 0\nclass Own(Cell):\n    pass\n",
        "bad_cells:Own",
        "failed: ZeroDivisionError",
    ),
    "exits": (
        _IMPORT + "import sys\nsys.exit(0)\nclass Own(Cell):\n    pass\n",
        "bad_cells:Own",
        "failed: SystemExit",
    ),
    "installed code": ("", "subprocess:Popen", "not define a class Popen"),
    "a package": ("", "json:JSONDecoder", "no file json.py"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_cell_is_rejected(name: str, here: Path) -> None:
    source, cell, message = BAD[name]
    (here / "bad_cells.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        load_cell_class(cell)


def test_cell_can_define_its_initial_state(here: Path) -> None:
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
    assert h.requires_grad  # it is trained
    assert bool((c == 0.25).all())


def test_initial_state_of_ones_keeps_buffers_unchanged(here: Path) -> None:
    method = "\n    def initial_state(self, _):\n        return (self.start, self.start)\n"
    source = CELL.replace(
        "        self.state_sizes",
        "        self.register_buffer('start', torch.full((3, hidden_size), 0.25))\n"
        "        self.state_sizes",
    )
    (here / "page_cells.py").write_text(source + method)
    cell = load_cell_class("page_cells:SLSTM")(2, 4)
    ones = RecurrentLayer(cell, "ones").initial_state(3)
    assert all(bool((part == 1).all()) for part in ones)
    assert bool((cell.get_buffer("start") == 0.25).all())


def test_module_without_the_cell_is_not_executed(here: Path) -> None:
    source = "from ptblm.model.cells.cell import Cell\nopen('ran', 'w')\nclass A: pass\n"
    (here / "bad_cells.py").write_text(source)
    with pytest.raises(ConfigError, match="not define a class A"):
        load_cell_class("bad_cells:A")
    assert not (here / "ran").exists()


def test_subclass_of_a_built_in_cell_is_a_cell(here: Path) -> None:
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
        ("    def __init__(self):\n        pass\n", "failed with TypeError"),
        ("    pass\n", "the cell has no parameters"),
        (MAKE, "failed with NotImplementedError: Own does not implement step()"),
        (MAKE + "    def step(self, x, s):\n        return self.w(x)[:, 1:], s\n", "[2, 15]"),
        (MAKE + "    def step(self, x, s):\n        return x, s[0]\n", "as a tuple"),
        (MAKE + "    def step(self, x, s):\n        return x, (0,)\n", "as tensors"),
        (
            MAKE + "    def step(self, x, s):\n        return x, (s[0][:1],)\n",
            "the initial state is ['[2, 16] float32'], but step returns ['[1, 16] float32']",
        ),
        (
            MAKE + "    def step(self, x, s):\n        return x, (s[0].double(),)\n",
            "but step returns ['[2, 16] float64']",
        ),
    ],
)
def test_error_describes_what_is_wrong_with_a_cell(body: str, message: str, here: Path) -> None:
    source = "from torch import nn\nfrom ptblm.model.cells.cell import Cell\nclass Own(Cell):\n"
    (here / "bad_cells.py").write_text(source + body)
    with pytest.raises(ConfigError) as error:
        build_model(
            ModelConfig(cell=CustomCellConfig(type="bad_cells:Own"), hidden_size=16), vocab_size=5
        )
    assert message in error.value.what


# A cell that cannot be built on the meta device and that uses torch's global generator.
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


def test_cell_with_dropout_and_buffers_resumes_exactly(here: Path, ptblm: Ptblm) -> None:
    (here / "page_cells.py").write_text(ODD_CELL.replace("Odd", "SLSTM"))
    for run, epochs in (("whole", 2), ("stopped", 1)):
        trained = ptblm("train", *OPTIONS[:-1], run, "--set", f"training.epochs={epochs}")
        assert trained.returncode == 0, trained.stderr
    resumed = ptblm("train", "--resume", "stopped", "--set", "training.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    results = [json.loads((here / run / "result.json").read_text()) for run in ("whole", "stopped")]
    for result in results:
        del result["training_seconds"]
    assert results[0] == results[1]
    scores = [ptblm("eval", "whole", "--json").stdout for _ in range(2)]
    assert scores[0] == scores[1]  # no dropout in evaluation
    assert json.loads(scores[0])["perplexity"] == pytest.approx(results[0]["test_perplexity"])


def test_source_hash_changes_with_the_file(here: Path) -> None:
    before = source_hash("page_cells:SLSTM")
    (here / "page_cells.py").write_text(CELL + "\n")
    assert len(before) == 64
    assert source_hash("page_cells:SLSTM") not in ("", before)
    assert source_hash("nowhere:Cell") == ""
