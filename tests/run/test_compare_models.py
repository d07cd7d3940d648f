"""`ptblm compare --against`: models on the same sentences."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from ptblm.errors import DataError, UsageError
from ptblm.reporting.history import read_run
from ptblm.run.compare import ratios_to
from ptblm.run.evaluate import evaluate_checkpoint
from ptblm.run.load_model import LoadedModel, load_trusted_model
from ptblm.run.train import train
from tests.conftest import Ptblm
from tests.run.helpers import tiny_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("compared")
    for name, overrides in {
        "small": ["model.hidden_size=2"],
        "large": ["model.hidden_size=40", "training.epochs=2"],
        "characters": ["data.tokenizer=char"],
        "bytes": ["data.tokenizer=byte"],
    }.items():
        train(tiny_config(*overrides), directory / name)
    return directory


def test_interval_covers_one_for_copies_and_excludes_it_for_others(runs: Path) -> None:
    same, large = ratios_to(runs / "small", [runs / "small", runs / "large"])
    assert same.low <= 1 <= same.high
    assert large.high < 1
    ratio = [evaluate_checkpoint(runs / name).score.perplexity for name in ("large", "small")]
    assert large.ratio == pytest.approx(ratio[0] / ratio[1], rel=1e-9)
    assert large.sentences > 100
    assert math.isclose(large.ratio, math.sqrt(large.low * large.high), rel_tol=0.02)


def test_models_with_other_tokens_are_rejected(runs: Path) -> None:
    with pytest.raises(UsageError, match="its vocabulary differs"):
        ratios_to(runs / "small", [runs / "characters"])


def test_text_without_a_target_is_rejected(runs: Path, tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("a")
    with pytest.raises(DataError, match="the test split has fewer than two tokens"):
        ratios_to(runs / "bytes", [runs / "bytes"], data=str(tmp_path))


def test_lines_without_a_target_are_not_sentences(runs: Path, tmp_path: Path) -> None:
    """The first token of a text has no context."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("\nthe the\n\nthe\n")
    (interval,) = ratios_to(runs / "small", [runs / "large"], data=str(tmp_path))
    assert interval.sentences == 3
    assert math.isfinite(interval.high)


def test_each_model_is_loaded_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []

    def load(path: Path, *options: Any) -> LoadedModel:
        loaded.append(path.name)
        return load_trusted_model(path, *options)

    monkeypatch.setattr("ptblm.run.compare.load_trusted_model", load)
    ratios_to(runs / "small", [runs / "large", runs / "small"])
    assert loaded == ["small", "large"]


def test_command_prints_a_sentence_for_each_run(runs: Path, ptblm: Ptblm) -> None:
    result = ptblm("compare", runs / "large", runs / "small", "--against", runs / "small")
    assert result.returncode == 0, result.stderr
    *_, large, small = result.stdout.splitlines()
    assert "test perplexity of large: " in large
    assert "lower than that of small (95% interval -" in large
    assert "equal to that of small" in small


def test_curves_are_csv_with_quoted_names(runs: Path, tmp_path: Path, ptblm: Ptblm) -> None:
    shutil.copytree(runs / "small", tmp_path / 'a,"b\n')
    result = ptblm("compare", tmp_path, runs / "large", "--curves")
    assert result.returncode == 0, result.stderr
    rows = list(csv.DictReader(result.stdout.splitlines()))
    assert list(rows[0]) == ["run", "step", "epoch", "name", "value"]
    assert {row["run"] for row in rows} == {'a,"b\\n', "large"}
    valid = [row["value"] for row in rows if row["name"] == "valid_perplexity"]
    assert [float(value) for value in valid] == [
        done.valid_perplexity
        for name in ("small", "large")
        for done in read_run(runs / name).epochs
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--curves", "--by-seed"], "--curves prints recorded values"),
        (["--by-seed", "--against", "x"], "omit --by-seed"),
        (["--split", "valid"], "belong to --against"),
        (["--sort", "loss"], "no column loss"),
    ],
)
def test_options_that_do_not_fit_are_rejected(
    options: list[str], message: str, runs: Path, ptblm: Ptblm
) -> None:
    result = ptblm("compare", runs / "small", *options)
    assert result.returncode == 2
    assert message in result.stderr
