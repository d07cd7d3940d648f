"""Runs with tied embeddings, a mixture and the other options of the output."""

from pathlib import Path

import pytest
import torch

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, last_checkpoint, options, tiny

ALL = [
    *("model.tie_embeddings=true", "model.sum_layers=true", "model.head=mixture"),
    *("model.head.components=3", "model.head.dropout=0.2", "model.embedding_size=6"),
    *("model.output_projection=5", "model.softmax_bias=log_unigram", "model.dropout=0.1"),
    "model.initializer=lecun_normal",
]


def test_run_with_all_options_resumes_exactly(in_directory: Path) -> None:
    two = ["train", *options(tiny(*ALL, "training.epochs=2"))]
    one = [word.replace("training.epochs=2", "training.epochs=1") for word in two]
    assert ptblm(*two, "--run-dir", "whole")[0] == 0
    assert ptblm(*one, "--run-dir", "resumed")[0] == 0
    assert ptblm("train", "--resume", "resumed", "--set", "training.epochs=2")[0] == 0
    assert_same_end(Path("resumed"), Path("whole"))
    for command in (["checkpoint", "verify"], ["eval"], ["generate"]):
        code, errors, _ = ptblm(*command, "resumed")
        assert code == 0, errors
    Path("text").write_text("the cat sat\nthe dog ran\n")
    code, errors, _ = ptblm("score", "resumed", "text")
    assert code == 0, errors


@pytest.mark.parametrize("override", ["model.head.components=4", "model.output_projection=7"])
def test_resume_cannot_change_the_output(override: str, in_directory: Path) -> None:
    assert ptblm("train", *options(tiny(*ALL)), "--run-dir", "run")[0] == 0
    code, errors, _ = ptblm("train", "--resume", "run", "--set", override)
    assert code == 2
    assert override.partition("=")[0] in errors


CELL = """
import torch
from ptblm.model.cells.cell import Affine, Cell

class Narrow(Cell):
    def __init__(self, input_size, hidden_size):
        super().__init__(input_size, hidden_size)
        self.output_size = 3
        self.affine = Affine(input_size, hidden_size, hidden_size)
        self.out = torch.nn.Parameter(torch.empty(3, hidden_size))

    def step(self, x, state):
        h = torch.tanh(self.affine(self.affine.inputs(x), state[0]))
        return h @ self.out.t(), (h,)
"""


def test_output_size_of_a_custom_cell_counts(in_directory: Path) -> None:
    Path("narrow_cell.py").write_text(CELL)
    cell = ["model.cell=narrow_cell:Narrow", "model.tie_embeddings=true"]
    code, errors, _ = ptblm("train", *options(tiny(*cell)), "--run-dir", "run")
    assert code == 2
    assert "model.tie_embeddings: needs an embedding as large as the input of the" in errors


@pytest.mark.parametrize(
    "output",
    [["model.tie_embeddings=true", "model.embedding_size=3"], ["model.head=adaptive"]],
    ids=["tied", "adaptive"],
)
def test_custom_cell_before_every_head(output: list[str], in_directory: Path) -> None:
    Path("narrow_cell.py").write_text(CELL)
    fitting = options(tiny("model.cell=narrow_cell:Narrow", *output))
    code, errors, _ = ptblm("train", *fitting, "--run-dir", "run")
    assert code == 0, errors
    code, errors, printed = ptblm("checkpoint", "verify", "run")
    assert code == 0, errors + printed


def test_learned_state_of_a_custom_cell_is_verified(in_directory: Path) -> None:
    """Without the code of the cell, which alone knows the sizes of its state."""
    Path("learned_cell.py").write_text(CELL)
    cell = ["model.cell=learned_cell:Narrow", "model.initial_state=learned"]
    code, errors, _ = ptblm("train", *options(tiny(*cell)), "--run-dir", "run")
    assert code == 0, errors
    Path("learned_cell.py").unlink()
    code, errors, output = ptblm("checkpoint", "verify", "run")
    assert code == 0, errors + output
    path = last_checkpoint(Path("run"))
    name = "recurrent.layers.1.learned_state.0"
    for value in (None, torch.zeros(5)):
        checkpoint = load_checkpoint(path)
        checkpoint.model.pop(name)
        checkpoint.model.update({} if value is None else {name: value})
        save_checkpoint(Path("bad.safetensors"), checkpoint)
        code, _, output = ptblm("checkpoint", "verify", "bad.safetensors")
        assert code == 4
        assert name in output
