"""The table of a run: a row per epoch, and the summary at its end."""

import math

from ptblm.corpus.splits import Split
from ptblm.corpus.vocabulary import EOS
from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.reporting.published import PublishedResult
from ptblm.training.records import EpochDone, RunDone

Floors = dict[Split, float]

_COLUMNS = "{:>5}  {:>8}  {:>9}  {:>9}  {:>8}  {:>9}"


def header(unit: str, floors: Floors) -> list[str]:
    """The table's first lines; the floor stands under the split that it is known for."""
    head = _COLUMNS.format("epoch", "rate", "train", "valid", "seconds", "tokens/s")
    lines = [head if unit == "word" else f"{head}  valid bits"]
    if "valid" in floors:
        lines.append(_COLUMNS.format("floor", "", "", f"{floors['valid']:.2f}", "", "").rstrip())
    return lines


def epoch_row(done: EpochDone, unit: str) -> str:
    """One epoch under the header; a star marks the best valid perplexity so far."""
    row = _COLUMNS.format(
        done.epoch,
        f"{done.learning_rate:.4g}",
        f"{done.train_perplexity:.2f}",
        f"{done.valid_perplexity:.2f}",
        f"{done.seconds:.1f}",
        f"{done.tokens_per_second:,.0f}",
    )
    bits = "" if unit == "word" else f"{math.log2(done.valid_perplexity):>12.4f}"
    return row + bits + (" *" if done.best else "")


def with_floor(perplexity: float, floors: Floors, split: Split) -> str:
    """A perplexity, and beside it the lowest an honest model can reach, where that is known."""
    floor = floors.get(split)
    return f"{perplexity:.2f}" + (f" (floor {floor:.2f})" if floor is not None else "")


def summary(
    last: EpochDone, test: RunDone, unit: str, floors: Floors, published: list[PublishedResult]
) -> list[str]:
    """The lines that end a run."""
    bits = {**epoch_bits(last, unit), **score_bits(test.score, unit, "test_")}
    lines = [
        "",
        f"valid perplexity {with_floor(last.valid_perplexity, floors, 'valid')}",
        f"test perplexity {with_floor(test.score.perplexity, floors, 'test')}"
        f"  over {test.score.tokens:,} tokens, {test.score.nats:.4f} nats each",
        *(_bits_line(name, value) for name, value in bits.items() if value is not None),
    ]
    if published:
        ours = PublishedResult(
            "this run", last.train_perplexity, last.valid_perplexity, test.score.perplexity
        )
        lines += ["", f"{'perplexity':<32}{'train':>9}{'valid':>9}{'test':>9}"]
        lines += [_figures_row(figures) for figures in [ours, *published]]
    return lines


def _bits_line(name: str, value: float) -> str:
    return f"{name.replace('_', ' ').replace('eos', EOS)} {value:.4f}"


def _figures_row(figures: PublishedResult) -> str:
    columns = (figures.train, figures.valid, figures.test)
    cells = "".join(f"{'-' if value is None else format(value, '.2f'):>9}" for value in columns)
    return f"{figures.source:<32}{cells}"
