"""A cell of one's own: from the documentation's page to a trained model, and what is refused."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from ptblm.errors import ConfigError
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.custom_cell import load_cell_class, source_hash
from ptblm.model.initialisers import Initialiser
from ptblm.model.recurrent import RecurrentLayer
from tests.conftest import REPOSITORY, Ptblm

PAGE = (REPOSITORY / "docs" / "your-own-cell.md").read_text(encoding="utf-8")
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
    ours.initialise(Initialiser("uniform", 0.5), torch.Generator().manual_seed(0))
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


def test_the_pages_checks_pass(here: Path, ptblm: Ptblm) -> None:
    (here / "checks.py").write_text(CHECKS.replace("my_cells", "page_cells"))
    exec(compile(CHECKS.replace("my_cells", "page_cells"), "checks.py", "exec"), {})


def test_the_pages_faster_cell_is_the_same_cell(here: Path) -> None:
    (here / "page_cells.py").write_text(CELL + FASTER)
    layers = []
    for name in ("SLSTM", "FasterSLSTM"):
        layer = RecurrentLayer(load_cell_class(f"page_cells:{name}")(3, 4))
        layer.initialise(Initialiser("uniform", 0.5), torch.Generator().manual_seed(0))
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
    assert "note:" not in resumed.stderr

    (here / "page_cells.py").write_text(CELL + "\n# changed\n")
    changed = ptblm("train", "--resume", "run", "--set", "training.epochs=4")
    assert changed.returncode == 0, changed.stderr
    assert "note: the file of page_cells:SLSTM was" in changed.stderr

    (here / "page_cells.py").unlink()
    shutil.rmtree(here / "__pycache__", ignore_errors=True)
    for command in (["eval", "run"], ["train", "--resume", "run"]):
        missing = ptblm(*command)
        assert missing.returncode == 2
        assert "no module 'page_cells' is to be found" in missing.stderr
        assert "Traceback" not in missing.stderr


BAD = {
    "missing": ("", "no_such_module:Cell", "no module 'no_such_module'"),
    "other name": (CELL, "bad_cells:GRU", "no class 'GRU'"),
    "no cell": ("class Cell:\n    pass\n", "bad_cells:Cell", "no class 'Cell' here that is a cell"),
    "imports but no subclass": (
        "from ptblm.model.cells.cell import Cell\nclass Own:\n    pass\n",
        "bad_cells:Own",
        "no subclass of Cell",
    ),
    "syntax": ("class Own(:\n", "bad_cells:Own", "no class 'Own'"),
    "fails": (
        "from ptblm.model.cells.cell import Cell\n1 / 0\nclass Own(Cell):\n    pass\n",
        "bad_cells:Own",
        "can't be imported: ZeroDivisionError",
    ),
    "installed code": ("", "subprocess:Popen", "no class 'Popen' here that is a cell"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_cell_is_refused(name: str, here: Path) -> None:
    source, cell, message = BAD[name]
    (here / "bad_cells.py").write_text(source)
    with pytest.raises(ConfigError, match=message):
        load_cell_class(cell)


def test_a_module_is_not_run_unless_it_defines_the_cell(here: Path) -> None:
    (here / "bystander.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass A: pass")
    with pytest.raises(ConfigError):
        load_cell_class("bystander:A")
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    def __init__(self):\n        pass\n", "failed: TypeError"),
        ("    pass\n", "Own has no step"),
        (
            "    def __init__(self, i, h):\n"
            "        super().__init__(i, h)\n"
            "        self.w = __import__('torch').nn.Linear(i, h)\n"
            "    def step(self, x, state):\n"
            "        return self.w(x)[:, 1:], state\n",
            "and gives [(199,), (200,)]",
        ),
    ],
)
def test_a_cell_that_does_not_work_says_so(
    body: str, message: str, here: Path, ptblm: Ptblm
) -> None:
    source = f"from ptblm.model.cells.cell import Cell\nclass Own(Cell):\n{body}"
    (here / "own_cells.py").write_text(source)
    tried = ptblm("train", "--data", "sample", "--set", "model.cell=own_cells:Own", "--dry-run")
    assert tried.returncode == 2, tried.stderr
    assert message in tried.stderr
    assert "Traceback" not in tried.stderr


def test_the_source_hash_follows_the_file(here: Path) -> None:
    before = source_hash("page_cells:SLSTM")
    (here / "page_cells.py").write_text(CELL + "\n")
    assert len(before) == 64
    assert source_hash("page_cells:SLSTM") not in ("", before)
    assert source_hash("nowhere:Cell") == ""
