"""The content of result.json."""

from typing import Any

from ptblm.reporting.bits import epoch_bits, run_measures, score_bits
from ptblm.reporting.published import published_results
from ptblm.reporting.reporter import RunResult
from ptblm.training.records import best_epoch


def result_document(result: RunResult) -> dict[str, Any]:
    """Returns the result of a run as plain data, including published results if there are any."""
    info, history, score = result.info, result.history, result.test.score
    last, best = history[-1], best_epoch(history)
    best_score = score if best is last else result.test.best_score
    published = published_results(info.config, info.corpus)
    return {
        "corpus": info.corpus.name,
        "parameters": info.parameters,
        "epochs": last.epoch,
        "steps": result.test.step,
        "stopped_early": result.stopped_early,
        "seed": info.config.training.seed,
        "precision": info.config.run.precision,
        "computing": info.computing,
        "train_perplexity": last.train_perplexity,
        "valid_perplexity": last.valid_perplexity,
        "best_valid_perplexity": best.valid_perplexity,
        "best_epoch": best.epoch,
        "best_test_perplexity": None if best_score is None else best_score.perplexity,
        "test_perplexity": None if score is None else score.perplexity,
        "test_tokens": None if score is None else score.tokens,
        **epoch_bits(last, info.unit),
        **score_bits(score, info.unit, "test_"),
        **run_measures(last.valid_perplexity, score, info.corpus, info.unit),
        "entropy_bounds": dict(info.corpus.entropy_bounds),
        "training_seconds": sum(done.seconds for done in history),
        "published": [published_result._asdict() for published_result in published],
    }
