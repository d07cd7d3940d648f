"""A custom cell with buffers of unusual dtypes trains, saves and resumes in fresh processes."""

from pathlib import Path

import torch

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import Ptblm
from tests.model.test_custom_cell import CELL

BUFFERS = """

class Buffered(SLSTM):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("narrow", torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
        self.register_buffer("bytes", torch.tensor([0, 255], dtype=torch.uint8))
        self.register_buffer("flags", torch.tensor([True, False]))
"""


def test_custom_buffers_are_saved_and_resumed(tmp_path: Path, ptblm: Ptblm) -> None:
    (tmp_path / "buffered.py").write_text(f"import torch\n{CELL}{BUFFERS}")
    options = ["--data", "sample", "--set", "model.cell=buffered:Buffered", "--run-dir", "run"]
    options += ["--set", "model.hidden_size=8", "--set", "training.learning_rate=0.5"]
    options += ["--set", "training.batch_size=200"]
    first = ptblm("train", *options, "--set", "training.epochs=1")
    assert first.returncode == 0, first.stderr
    resumed = ptblm("train", "--resume", "run", "--set", "training.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert checkpoint.trained()[0] == 2
    kinds = {tensor.dtype for tensor in checkpoint.model.values()}
    assert kinds >= {torch.bfloat16, torch.uint8, torch.bool}
    buffers = {name.rsplit(".", 1)[1]: tensor for name, tensor in checkpoint.model.items()}
    assert buffers["narrow"].tolist() == [1.5, -2.0]
    assert buffers["bytes"].tolist() == [0, 255]
    assert buffers["flags"].tolist() == [True, False]
    assert ptblm("eval", "run").returncode == 0
