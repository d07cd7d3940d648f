"""On CUDA: scores of tokens and generated texts agree with those on the CPU."""

from pathlib import Path

import numpy as np
import pytest
import torch

import ptblm
from ptblm.config.evaluation import EvaluationSettings
from ptblm.corpus.lines import lines_of
from ptblm.corpus.source import bytes_source
from ptblm.evaluation.line_scores import Mode, score_lines
from ptblm.evaluation.scorers.dynamic import gradient_rms
from ptblm.evaluation.scorers.pipeline import Pipeline
from ptblm.evaluation.token_scores import Measures, TokenScores, concatenate
from ptblm.run.load_model import load_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def scores(
    run: Path,
    device: str,
    mode: Mode,
    measures: Measures,
    settings: EvaluationSettings | None = None,
) -> TokenScores:
    loaded = load_model(run, device)
    pipeline = None
    if settings is not None:
        ids = np.arange(200, dtype=np.uint16) % 7
        rms = [gradient_rms(loaded.model, ids, 5)] * 2  # for rule `rms`
        pipeline = Pipeline([loaded.model] * 2, settings, 5, rms)
    text = "the cat sat\n\na dog ran on the mat\n" + "the dog " * 500
    lines = lines_of(bytes_source("text", text.encode()), loaded.tokenizer)
    context = loaded.tokenizer.line_end_id
    scored = score_lines(loaded.model, lines, mode, context, measures=measures, pipeline=pipeline)
    return concatenate([line.scores for line in scored])


@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
@pytest.mark.parametrize(
    "measures",
    [Measures(), Measures(entropy=True, rank=True, top=2), Measures(states=True)],
    ids=["nll", "columns", "states"],
)
def test_scores_agree_with_the_cpu(finished_run: Path, mode: Mode, measures: Measures) -> None:
    expected = scores(finished_run, "cpu", mode, measures)
    found = scores(finished_run, "cuda", mode, measures)
    for one, other in zip(found.arrays, expected.arrays, strict=True):
        assert (one is None) == (other is None)
        if one is not None and one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", ["sgd", "rms"])
@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_adaptive_scores_agree_with_the_cpu(finished_run: Path, mode: Mode, rule: str) -> None:
    """Gradients are computed with cuDNN although the model is in evaluation mode."""
    settings = EvaluationSettings.model_validate(
        {
            "temperature": 0.9,
            "cache": {"window": 9},
            "dynamic": {"rule": rule, "learning_rate": 0.01 if rule == "sgd" else 1e-4},
        }
    )
    expected = scores(finished_run, "cpu", mode, Measures(), settings)
    found = scores(finished_run, "cuda", mode, Measures(), settings)
    np.testing.assert_allclose(found.nll, expected.nll, rtol=1e-3, atol=1e-4)


def test_generated_texts_are_those_of_the_cpu(finished_run: Path) -> None:
    """Generation computes in float64, so rounding does not change a drawn token."""
    texts = [
        ptblm.load(finished_run, device=device).generate("the", tokens=50, samples=20, seed=1)
        for device in ("cpu", "cuda")
    ]
    assert [text.text for text in texts[0]] == [text.text for text in texts[1]]
