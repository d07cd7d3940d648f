"""The content of result.json."""

from typing import Any

from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.reporting.published import published_results
from ptblm.reporting.reporter import RunResult


def result_document(result: RunResult) -> dict[str, Any]:
    """Returns the result of a run as plain data, including published results if there are any."""
    info, history, score = result.info, result.history, result.test.score
    last = history[-1]
    best = min(history, key=lambda done: done.valid_perplexity)
    published = published_results(info.config, info.corpus)
    return {
        "corpus": info.corpus.name,
        "parameters": info.parameters,
        "epochs": last.epoch,
        "steps": result.test.step,
        "seed": info.config.training.seed,
        "precision": info.config.run.precision,
        "computing": info.computing,
        "train_perplexity": last.train_perplexity,
        "valid_perplexity": last.valid_perplexity,
        "best_valid_perplexity": best.valid_perplexity,
        "best_epoch": best.epoch,
        "test_perplexity": score.perplexity,
        "test_tokens": score.tokens,
        **epoch_bits(last, info.unit),
        **score_bits(score, info.unit, "test_"),
        "entropy_bounds": dict(info.corpus.entropy_bounds),
        "training_seconds": sum(done.seconds for done in history),
        "published": [published_result._asdict() for published_result in published],
    }
