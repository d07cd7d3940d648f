"""On CUDA: the same numbers as on the CPU, every precision, and exact resume.

The deterministic mode is for a whole process, so its tests come last.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.config.loading import load_config
from ptblm.run.assemble import Assembly, assemble
from ptblm.training.records import RunDone, StepDone

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

SETTINGS = ["data.path=sample", "model.hidden_size=64", "training.epochs=2"]


def make(*overrides: str) -> Assembly:
    return assemble(load_config("small", [*SETTINGS, *overrides]))


def first_losses(assembly: Assembly, steps: int) -> list[float]:
    records = assembly.trainer.records()
    losses = []
    for _ in range(steps):
        record = next(records)
        assert isinstance(record, StepDone)
        losses.append(record.nll / record.tokens)
    return losses


def test_fp32_on_cuda_equals_the_cpu() -> None:
    """Initial weights are drawn on the CPU, so both start alike; without dropout they go alike."""
    cpu = first_losses(make("training.device=cpu"), 20)
    cuda = first_losses(make("training.device=cuda"), 20)
    np.testing.assert_allclose(cuda, cpu, rtol=1e-4)


@pytest.mark.parametrize("plain", ["false", "true"], ids=["fast", "plain"])
@pytest.mark.parametrize("cell", ["lstm", "rnn", "gru", "slstm", "janet", "mogrifier"])
def test_every_cell_on_cuda_equals_the_cpu(cell: str, plain: str) -> None:
    """Fused or compiled, and step by step."""
    options = [f"model.cell={cell}", f"training.plain={plain}", "training.learning_rate=0.1"]
    cpu = first_losses(make("training.device=cpu", *options), 10)
    assembly = make("training.device=cuda", *options)
    fused = cell in ("lstm", "rnn", "gru")
    fast = "fused" if fused else "step by step, compiled"
    assert assembly.trainer.model.recurrent.path == ("step by step" if plain == "true" else fast)
    np.testing.assert_allclose(first_losses(assembly, 10), cpu, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_learns(precision: str) -> None:
    assembly = make("training.device=cuda", f"training.precision={precision}")
    *_, last = assembly.trainer.records()
    assert isinstance(last, RunDone)
    assert assembly.corpus.floors["test"] < last.score.perplexity < 30


@pytest.mark.parametrize(
    ("precision", "optimizer", "rate"),
    [
        ("fp32", "sgd", 1.0),
        ("tf32", "sgd", 1.0),
        ("bf16", "sgd", 1.0),
        ("fp16", "sgd", 1.0),
        ("fp32", "momentum", 0.1),
        ("fp16", "adam", 0.001),
        ("fp32", "rmsprop", 0.001),
    ],
)
def test_in_deterministic_mode_a_stopped_run_equals_one_that_was_not(
    precision: str, optimizer: str, rate: float, tmp_path: Path
) -> None:
    overrides = ["model.dropout=0.3", f"training.precision={precision}", "training.device=cuda"]
    overrides += [f"training.optimizer={optimizer}", f"training.learning_rate={rate}"]
    overrides += ["training.deterministic=true"]
    whole = make(*overrides)
    first_losses(whole, 60)
    stopped = make(*overrides)
    first_losses(stopped, 30)
    torch.save(stopped.trainer.state_dict(), tmp_path / "saved.pt")
    resumed = make(*overrides)
    saved: dict[str, Any] = torch.load(tmp_path / "saved.pt", map_location="cpu")
    resumed.trainer.load_state_dict(saved)
    first_losses(resumed, 30)
    ours = resumed.trainer.model.state_dict()
    for name, value in whole.trainer.model.state_dict().items():
        assert torch.equal(ours[name], value), name
