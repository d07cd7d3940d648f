"""What people see: published figures where they apply, the bar, the table."""

import dataclasses
import io
import math
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.evaluation.score import Score
from ptblm.reporting.bits import epoch_bits, score_bits
from ptblm.reporting.progress import Progress
from ptblm.reporting.published import published_results
from ptblm.reporting.table import epoch_row, header, summary
from ptblm.training.records import EpochDone, Evaluating, RunDone, StepDone


@pytest.fixture(scope="module")
def ptb(ptb_directory: Path) -> Corpus:
    return load_corpus(str(ptb_directory))


@pytest.mark.parametrize(
    ("name", "test"), [("small", 115.91), ("medium", 82.07), ("large", 78.29), ("test", None)]
)
def test_a_shipped_recipe_on_ptb_is_held_against_its_figures(
    name: str, test: float | None, ptb: Corpus
) -> None:
    conduct = ["training.seed=9", "run.precision=bf16", "run.checkpoint_every=3 steps"]
    figures = published_results(load_config(name, conduct), ptb)
    assert [f.test for f in figures][:1] == ([] if test is None else [test])


@pytest.mark.parametrize("change", ["model.hidden_size=201", "training.epochs=12"])
def test_another_recipe_is_not(change: str, ptb: Corpus) -> None:
    assert published_results(load_config("small", [change]), ptb) == []


def test_the_recipe_on_another_text_is_not(ptb: Corpus) -> None:
    text = dataclasses.replace(ptb.splits["test"], sha256="0" * 64)
    other = dataclasses.replace(ptb, splits={**ptb.splits, "test": text})
    assert published_results(load_config("small"), other) == []
    assert published_results(load_config("small"), load_corpus("sample")) == []


@pytest.mark.parametrize("level", ["char", "byte"])
def test_the_recipe_on_the_same_files_by_characters_or_bytes_is_not(
    level: str, ptb_directory: Path
) -> None:
    if level == "char" and not (ptb_directory / "ptb.char.train.txt").is_file():
        pytest.skip(f"needs the Penn Treebank's character files in {ptb_directory}")
    other = load_corpus(str(ptb_directory), level)
    assert published_results(load_config("small", [f"data.tokenizer={level}"]), other) == []


DONE = EpochDone(2, 100, 0.5, 8.0, 4.0, 9.0, 1000.0, best=True)
TEST = RunDone(100, Score(16 * math.log(4), 16, {"<eos>": Score(4 * math.log(2), 4)}))


def test_bits_are_per_character_with_and_without_eos() -> None:
    """16 targets of 2 bits on average, of which 4 are `<eos>` at one bit."""
    assert epoch_bits(DONE, "character") == {
        "train_bits_per_character": 3.0,
        "valid_bits_per_character": 2.0,
    }
    bits = score_bits(TEST.score, "character")
    assert bits["bits_per_character"] == pytest.approx(2)
    assert bits["bits_per_character_without_eos"] == pytest.approx((32 - 4) / 12)
    only_eos = Score(4 * math.log(2), 4, {"<eos>": Score(4 * math.log(2), 4)})
    assert score_bits(only_eos, "character")["bits_per_character_without_eos"] is None


def test_bytes_have_no_eos_and_words_no_bits() -> None:
    without_eos = Score(TEST.score.nll, TEST.score.tokens)
    assert list(score_bits(without_eos, "byte", "test_")) == ["test_bits_per_byte"]
    assert score_bits(TEST.score, "word") == epoch_bits(DONE, "word") == {}


def test_the_summary_has_a_line_for_each() -> None:
    assert summary(DONE, TEST, "character", {}, [])[3:] == [
        "train bits per character 3.0000",
        "valid bits per character 2.0000",
        "test bits per character 2.0000",
        "test bits per character without <eos> 2.3333",
    ]
    assert len(summary(DONE, TEST, "word", {}, [])) == 3


STEP = StepDone(
    epoch=2,
    batch=50,
    batches=200,
    step=250,
    learning_rate=0.5,
    nll=10.0,
    tokens=20,
    grad_norm=1.0,
    epoch_nll=4000.0,
    epoch_tokens=1000,
    epoch_seconds=10.0,
)


class Terminal(io.StringIO):
    """Collects what would be shown."""

    def isatty(self) -> bool:
        return True


def test_the_bar_shows_perplexity_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress(epochs=3, floors={"valid": 10.0})
    progress.show(STEP)
    progress.show(Evaluating("valid", Score(nll=23.0, tokens=10), 100))
    progress.close()
    # 0.2 s a batch: 150 batches are left of this epoch, and 200 of the next.
    expected = "epoch 2/3, perplexity 54.60, 100 tokens/s, 0:30 left (run 1:10)"
    assert expected in terminal.getvalue()
    assert "50/200" in terminal.getvalue()
    assert "valid, perplexity 9.97 (floor 10.00)" in terminal.getvalue()


def test_without_a_terminal_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(epochs=3, floors={})
    for _ in range(100):
        now[0] += 1
        progress.show(STEP)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("epoch 2/3: 50 of 200, perplexity 54.60")


def test_the_table_lines_up() -> None:
    row = epoch_row(EpochDone(13, 30199, 0.5**9, 41.1, 119.58, 197.4, 4707.3, best=True), "word")
    head, floor = header("word", {"valid": 10.156})
    assert row == "   13  0.001953      41.10     119.58     197.4      4,707 *"
    assert len(head) == len(row) - 2
    assert floor.index("10.16") + len("10.16") == head.index("valid") + len("valid")


def test_characters_have_their_bits_in_the_table() -> None:
    row = epoch_row(EpochDone(1, 6271, 0.5, 3.7, 4.0, 290.0, 17300.0, best=False), "char")
    (head,) = header("char", {})
    assert row.endswith("     17,300      2.0000")
    assert head.endswith("  valid bits")
    assert len(head) == len(row)


def test_the_summary_puts_published_figures_beside_ours(ptb: Corpus) -> None:
    done = EpochDone(13, 30199, 0.5, 41.1, 119.58, 197.4, 4707.3, best=True)
    test = RunDone(30199, Score(nll=4.7455 * 82429, tokens=82429))
    lines = summary(done, test, "word", {}, published_results(load_config("small"), ptb))
    assert "test perplexity 115.07  over 82,429 tokens, 4.7455 nats each" in lines
    ours, tutorial = (line.split() for line in lines[5:7])
    assert ours[-3:] == ["41.10", "119.58", "115.07"]
    assert tutorial[-3:] == ["37.99", "121.39", "115.91"]
