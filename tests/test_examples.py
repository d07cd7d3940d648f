"""The examples reach the results that they describe."""

import importlib.util
import json
import runpy
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
import torch
from torch import nn

from ptblm.config.sweep_loading import load_sweep
from ptblm.model.cells.rnn import RNNCell
from ptblm.model.cells.slstm import SLSTMCell
from ptblm.model.layers.recurrent import RecurrentLayer
from tests.conftest import FAST, write_small_corpus
from tests.in_process import ptblm

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def running_sum() -> ModuleType:
    spec = importlib.util.spec_from_file_location("running_sum", EXAMPLES / "running_sum.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("in_directory", "one_thread")
def test_mixture_with_published_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus, public, random = write_small_corpus(Path("corpus")), Path("public"), Random(0)
    for path in corpus.iterdir():  # a word that readers of tables take for a missing value
        path.write_text(path.read_text().replace("ran", "none"))
    assert ptblm("train", *FAST, "--data", corpus, "--run-dir", "run")[0] == 0
    perplexities = []
    for split in ("valid", "test"):
        options = ["--mode", "stream", "--format", "jsonl"]
        code, errors, output = ptblm("score", "run", corpus / f"{split}.txt", *options)
        assert code == 0, errors
        Path(f"{split}.jsonl").write_text(output)
        words = (corpus / f"{split}.txt").read_text().replace("\n", " </s> ").split()[1:]
        (public / split).mkdir(parents=True)
        (public / f"words_{split}.txt").write_text("\n".join(words))
        lines = "".join(f"{random.uniform(0.01, 0.4)}\n" for _ in words)
        (public / split / "other.txt").write_text(lines)
        result = ptblm("eval", "run", "--split", split, "--json")[2]
        perplexities.append(f"{json.loads(result)['perplexity']:.2f}")
    script = str(EXAMPLES / "mix_published_models.py")
    monkeypatch.setattr("sys.argv", [script, "public", "valid.jsonl", "test.jsonl"])
    runpy.run_path(script)
    _, other, own, mixture = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [f"{float(cell):.2f}" for cell in own[:2]] == perplexities
    assert float(own[2]) + float(other[2]) == pytest.approx(1, abs=0.002)
    assert float(mixture[0]) < min(float(own[0]), float(other[0]))
    (public / "words_valid.txt").write_text("other words")
    with pytest.raises(SystemExit, match=r"valid\.jsonl does not have the tokens"):
        runpy.run_path(script)


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
