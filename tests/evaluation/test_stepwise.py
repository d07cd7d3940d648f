"""Scores computed token by token: equal to those of the sequence, and reproducible bit for bit."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.config.model import ModelConfig
from ptblm.evaluation.sequence_scores import score_sequences
from ptblm.evaluation.stepwise import next_log_probs, stepwise_log_probs
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer
from ptblm.model.language_model import LanguageModel
from tests.conftest import plain_environment

IDS = np.array([2, 7, 7, 0, 1, 3, 9, 0, 4, 2] * 5)


@pytest.fixture(params=["lstm", "gru", "rnn", "slstm", "rlstm", "sru"])
def model(request: pytest.FixtureRequest) -> LanguageModel:
    model = build_model(ModelConfig(hidden_size=16, num_layers=2, cell=request.param), 10)
    model.initialize(Initializer("uniform", 0.5), torch.Generator().manual_seed(0))
    return model.eval()


def stepwise_nll(model: LanguageModel, ids: np.ndarray, context: int) -> np.ndarray:
    targets = ids.tolist()
    predicted = stepwise_log_probs(model, [context, *targets[:-1]])
    return np.array([-row[target] for row, target in zip(predicted, targets, strict=False)])


@pytest.mark.usefixtures("one_thread")
def test_sum_equals_the_score_of_the_sequence(model: LanguageModel) -> None:
    (scores,) = score_sequences(model, [IDS], 0)
    found = stepwise_nll(model, IDS, 0)
    np.testing.assert_allclose(found, scores.nll, rtol=1e-5, atol=1e-6)
    assert found.sum() == pytest.approx(scores.nll.sum(), rel=1e-5)


@pytest.mark.usefixtures("one_thread")
def test_log_probs_are_those_of_all_tokens(model: LanguageModel) -> None:
    hidden_state = model.initial_state(3)
    log_probs, after = next_log_probs(model, torch.tensor([0, 4, 4]), hidden_state)
    assert log_probs.shape == (3, 10)
    torch.testing.assert_close(log_probs.exp().sum(1), torch.ones(3))
    torch.testing.assert_close(log_probs[1], log_probs[2])
    assert stepwise_nll(model, IDS[:1], 4)[0] == pytest.approx(-float(log_probs[1, IDS[0]]))
    assert len(after) == 2
    assert after[0][0].shape == (3, 16)


def test_empty_sequence_has_no_scores(model: LanguageModel) -> None:
    assert stepwise_nll(model, IDS[:0], 0).shape == (0,)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from ptblm.evaluation.stepwise import stepwise_log_probs
from ptblm.run.load_model import load_model
loaded = load_model(Path(sys.argv[1]), "cpu")
ids = np.arange(500) * 7 % len(loaded.tokenizer.vocabulary)
print(np.stack(list(stepwise_log_probs(loaded.model, ids.tolist()))).tobytes().hex())
"""


def test_two_processes_give_the_same_bits(finished_run: Path) -> None:
    found = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(finished_run)],
            env=plain_environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1]
    assert len(found[0]) >= 500 * 16  # 8 bytes of each number, in hexadecimal
