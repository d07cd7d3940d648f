"""Surprisal and entropy equal those that neural-complexity computes with the same weights.

tests/golden/neural_complexity contains a model of its class `RNNModel` with random weights, 200
sentences, and the output of its `main.py --test --words` for them.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.config.data import DataConfig
from ptblm.config.model import ModelConfig
from ptblm.corpus.findings import Findings
from ptblm.corpus.lines import read_lines, text_pieces
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.line_scores import score_lines
from ptblm.model.build import build_model
from ptblm.model.language_model import LanguageModel
from ptblm.reporting.score_formats import FORMATS
from ptblm.reporting.score_formats.columns import Request, measures


@pytest.fixture
def directory(golden: Path) -> Path:
    return golden / "neural_complexity"


@pytest.fixture
def tokenizer(directory: Path) -> Tokenizer:
    words = (directory / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return make_tokenizer("word", Vocabulary(words, [0] * len(words)))


@pytest.fixture
def model(directory: Path, tokenizer: Tokenizer) -> LanguageModel:
    with np.load(directory / "weights.npz") as file:
        weights = {name: torch.from_numpy(file[name]) for name in file.files}
    vocabulary_size, embedding_size = weights["encoder.weight"].shape
    hidden_size = weights["decoder.weight"].shape[1]
    config = ModelConfig(hidden_size=hidden_size, embedding_size=embedding_size, num_layers=2)
    model = build_model(config, vocabulary_size)
    assert vocabulary_size == len(tokenizer.vocabulary)
    parameters = dict(model.named_parameters())
    theirs = {
        "embedding.weight": weights["encoder.weight"],
        "head.weight": weights["decoder.weight"],
        "head.bias": weights["decoder.bias"],
    }
    for layer in range(2):
        prefix = f"recurrent.layers.{layer}.cell.gates"
        theirs |= {
            f"{prefix}.weight_ih": weights[f"rnn.weight_ih_l{layer}"],
            f"{prefix}.weight_hh": weights[f"rnn.weight_hh_l{layer}"],
            # One bias is the sum of both.
            f"{prefix}.bias": weights[f"rnn.bias_ih_l{layer}"] + weights[f"rnn.bias_hh_l{layer}"],
        }
    assert parameters.keys() == theirs.keys()
    with torch.no_grad():
        for name, value in theirs.items():
            parameters[name].copy_(value)
    return model.eval()


def test_parity_with_neural_complexity(
    directory: Path, model: LanguageModel, tokenizer: Tokenizer
) -> None:
    form = FORMATS["neural-complexity"]
    pieces = text_pieces(str(directory / "sentences.txt"))
    lines = read_lines(pieces, "sentences", tokenizer, DataConfig(), Findings())
    wanted = measures(form.fixed, 0)
    scored = score_lines(model, lines, "sentence", tokenizer.line_end_id, measures=wanted)
    request = Request(tokenizer, 2.0, form.fixed)
    rows = [row.split(" ") for block in form.write(scored, request) for row in block]
    expected = [
        line.split(" ") for line in (directory / "output.txt").read_text("utf-8").splitlines()
    ]
    assert [row[:4] for row in rows] == [row[:4] for row in expected]
    values, golden = (np.array([row[4:] for row in each[1:]], float) for each in (rows, expected))
    assert len(golden) > 2000
    assert sum(row[0] == "<unk>" for row in expected) > 30
    np.testing.assert_allclose(values[:, :2], golden[:, :2], rtol=0, atol=2e-6)
    np.testing.assert_allclose(values[:, 2], golden[:, 2], rtol=0, atol=4e-6)  # a difference
    assert golden[:, 0].std() > 1
    assert golden[:, 1].mean() < math.log2(len(tokenizer.vocabulary)) - 0.5
