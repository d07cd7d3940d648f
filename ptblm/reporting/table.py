"""The results table of a run, with one row per epoch, and the final summary."""

import math
import sys
from collections.abc import Sequence

from ptblm.corpus.layout import Split
from ptblm.corpus.vocabulary import EOS
from ptblm.reporting.bits import Bits, epoch_bits, score_bits
from ptblm.reporting.published import PublishedResult
from ptblm.training.records import EpochDone, RunDone, best_epoch

EntropyBounds = dict[Split, float]

_LEVELS = "▁▂▃▄▅▆▇█"  # of a sparkline
_MIN_EPOCHS, _MAX_EPOCHS = 3, 50

# 70 characters wide; 76 with the star and the mark of an average.
_COLUMNS = "{:>5}  {:>8}  {:>9}  {:>9}  {:>8}  {:>9}  {:>10}"


def header(bounds: EntropyBounds) -> list[str]:
    """Returns the header of the table, and a row with the entropy bound if it is known.

    Args:
        bounds: the lowest possible expected perplexity of each split, if known.
    """
    columns = ("epoch", "rate", "train", "valid", "seconds", "tokens/s", "valid bits")
    lines = [_COLUMNS.format(*columns)]
    if "valid" in bounds:
        valid = bounds["valid"]
        row = _COLUMNS.format("bound", "", "", f"{valid:.2f}", "", "", f"{math.log2(valid):.4f}")
        lines.append(row)
    return lines


def epoch_row(done: EpochDone) -> str:
    """Returns the row of an epoch.

    A star marks the best validation perplexity so far, and "avg" that of averaged weights.
    """
    row = _COLUMNS.format(
        done.epoch,
        f"{done.learning_rate:.4g}",
        f"{done.train_perplexity:.2f}",
        f"{done.valid_perplexity:.2f}",
        f"{done.seconds:.1f}",
        f"{done.tokens_per_second:,.0f}",
        f"{math.log2(done.valid_perplexity):.4f}",
    )
    return row + (" *" if done.best else "") + (" avg" if done.averaged else "")


def with_entropy_bound(perplexity: float, bounds: EntropyBounds, split: Split) -> str:
    """Returns a perplexity as text, followed by the entropy bound of the split if it is known."""
    bound = bounds.get(split)
    return f"{perplexity:.2f}" + (f" (entropy bound {bound:.2f})" if bound is not None else "")


def summary(
    history: list[EpochDone],
    test: RunDone,
    unit: str,
    bounds: EntropyBounds,
    published: list[PublishedResult],
    *,
    measures: Bits | None = None,
    stopped_early: bool = False,
    is_tested: bool = True,
) -> list[str]:
    """Returns the summary lines of a finished run.

    Args:
        history: all epochs.
        test: the scores of the test split.
        unit: name of a token: "word", "character", "byte" or "subword".
        bounds: the lowest possible expected perplexity of each split, if known.
        published: published results of the same recipe, for comparison.
        measures: measures that do not depend on the tokenizer, by name.
        stopped_early: whether early stopping ended training.
        is_tested: whether the test split is evaluated if there is one; see `run.test`.
    """
    last, best, score = history[-1], best_epoch(history), test.score
    bits = {**epoch_bits(last, unit), **score_bits(score, unit, "test_"), **(measures or {})}
    reason = "the corpus has no test split" if is_tested else "run.test is false"
    untested = f"no test perplexity: {reason}"
    stopped = f"stopped early: no better valid perplexity since epoch {best.epoch}"
    lines = [
        "",
        *([stopped] if stopped_early else []),
        *_sparkline(history),
        f"valid perplexity {with_entropy_bound(last.valid_perplexity, bounds, 'valid')}",
        untested
        if score is None
        else f"test perplexity {with_entropy_bound(score.perplexity, bounds, 'test')}, "
        f"{score.nats:.4f} nats per token, {score.tokens:,} tokens",
        *(_bits_line(name, value) for name, value in bits.items() if value is not None),
    ]
    if best is not last:
        of_best = test.best_score
        lines.append(
            f"best valid perplexity {best.valid_perplexity:.2f} after epoch {best.epoch}"
            + ("" if of_best is None else f": test perplexity {of_best.perplexity:.2f}")
        )
    if published:
        perplexity = None if score is None else score.perplexity
        ours = PublishedResult("this run", last.train_perplexity, last.valid_perplexity, perplexity)
        lines += ["", f"{'perplexity':<32}{'train':>9}{'valid':>9}{'test':>9}"]
        lines += [_published_row(result) for result in [ours, *published]]
    return lines


def sparkline(values: Sequence[float]) -> str:
    """Returns a curve of the logarithms of positive values, with a character for each value.

    If there are more than 50 values, a character stands for the last of several values.
    """
    count = min(len(values), _MAX_EPOCHS)
    logs = [math.log(values[len(values) * (i + 1) // count - 1]) for i in range(count)]
    low, high = min(logs), max(logs)
    top = len(_LEVELS) - 1
    return "".join(_LEVELS[round(top * (log - low) / (high - low or 1))] for log in logs)


def _sparkline(history: list[EpochDone]) -> list[str]:
    """Returns the line with the curve, unless it is too short or stdout cannot show it."""
    values = [done.valid_perplexity for done in history]
    try:
        _LEVELS.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return []
    return [f"valid perplexity by epoch {sparkline(values)}"] if len(values) >= _MIN_EPOCHS else []


def _bits_line(name: str, value: float) -> str:
    digits = 2 if "perplexity" in name else 4
    return f"{name.replace('_', ' ').replace('eos', EOS)} {value:.{digits}f}"


def _published_row(result: PublishedResult) -> str:
    columns = (result.train, result.valid, result.test)
    cells = "".join(f"{'-' if value is None else format(value, '.2f'):>9}" for value in columns)
    return f"{result.source:<32}{cells}"
