"""Text of a trained model has the known entropy of its training text."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import read_entropy_bound
from ptblm.corpus.layout import Split
from ptblm.evaluation.generate import Length, generate
from ptblm.run.generate import make_text_generator
from ptblm.run.load_model import load_model
from ptblm.run.train import train
from tests.conftest import REPOSITORY

SAMPLE = REPOSITORY / "data" / "sample"
# The test perplexity after these epochs is 1.10 times the bound.
RECIPE = ["data.path=sample", "model.dropout=0.3", "training.epochs=16"]
RECIPE += ["training.schedule.full_rate_epochs=8", "training.schedule.decay=0.7"]


def known_entropy(split: Split) -> tuple[float, int]:
    """The mean surprisal of a split under the exact source, in nats, and the number of tokens."""
    raw = (SAMPLE / f"{split}.txt").read_bytes()
    perplexity = read_entropy_bound(SAMPLE, "word", split, hashlib.sha256(raw).hexdigest())
    assert perplexity is not None
    return math.log(perplexity), len(raw.split()) + raw.count(b"\n") - 1


@pytest.mark.slow
def test_generated_text_has_the_entropy_of_the_sample_corpus(tmp_path: Path) -> None:
    train(load_config("small", RECIPE), tmp_path / "run")
    generator = make_text_generator(load_model(tmp_path / "run", "cpu"), seed=1)
    found = generate(
        generator.model,
        generator.start,
        range(40),
        seed=1,
        length=Length(500),
        line_end=generator.tokenizer.line_end_id,
    )
    nll = np.concatenate([sample.nll for sample in found])
    assert len(nll) == 20_000
    (valid, valid_tokens), (test, test_tokens) = known_entropy("valid"), known_entropy("test")
    known_tokens = valid_tokens + test_tokens
    known = (valid * valid_tokens + test * test_tokens) / known_tokens
    error = nll.std() * math.sqrt(1 / len(nll) + 1 / known_tokens)
    print(f"generated {nll.mean():.4f}, known {known:.4f}, standard error {error:.4f} nats")
    assert abs(nll.mean() - known) < 3 * error
