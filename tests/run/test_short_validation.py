"""A validation text that is shorter than a training batch is evaluated in fewer streams."""

from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.reporting.console import ConsoleReporter
from ptblm.run.train import train
from ptblm.training.records import Evaluating, Record


class Recorder(ConsoleReporter):
    """Also records the evaluations."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations: list[Evaluating] = []

    def write(self, record: Record) -> None:
        super().write(record)
        if isinstance(record, Evaluating):
            self.evaluations.append(record)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus of 2,200 tokens for training and 275 for validation and test."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    for split, lines in (("train", 200), ("valid", 25), ("test", 25)):
        text = "".join(f"w{line % 7} a b c d e f g h <unk>\n" for line in range(lines))
        (directory / f"{split}.txt").write_text(text)
    return directory


@pytest.mark.parametrize(
    ("config", "overrides", "streams"),
    [
        ("small", [], "13 streams instead of 20"),
        ("medium", [], "7 streams instead of 20"),
        ("small", ["training.num_steps=100"], "2 streams instead of 20"),
        ("small", ["training.num_steps=300", "training.batch_size=5"], "1 stream instead of 5"),
        ("small", ["training.batch_size=13"], None),
    ],
)
def test_short_validation_text_is_evaluated_completely(
    config: str,
    overrides: list[str],
    streams: str | None,
    corpus: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = [f"data.path={corpus}", "model.hidden_size=8", "training.epochs=1", *overrides]
    reporter = Recorder()
    train(load_config(config, settings), corpus.with_name("run"), reporter=reporter)
    assert {e.total_tokens for e in reporter.evaluations} == {274}
    for split in ("valid", "test"):
        *_, last = (e for e in reporter.evaluations if e.split == split)
        assert last.score.tokens == 274
    errors = capsys.readouterr().err
    note = f"  note        validation uses {streams}: the text is short\n"
    assert (note in errors) if streams else ("validation uses" not in errors)


def test_validation_text_split_by_position(tmp_path: Path) -> None:
    """Of 8,000 tokens, 5% are 400, which is less than the 420 of a training batch."""
    text = tmp_path / "text.txt"
    text.write_text("".join(f"w{line % 7} a b c d e <unk>\n" for line in range(1000)))
    settings = [f"data.path={text}", "model.hidden_size=8", "training.epochs=1"]
    reporter = Recorder()
    train(load_config("small", settings), tmp_path / "run", reporter=reporter)
    *_, last = (e for e in reporter.evaluations if e.split == "valid")
    assert last.score.tokens == last.total_tokens
    assert 390 < last.total_tokens < 410
