"""Runs on characters and bytes, and on a single file, from the command line."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptblm.api import load
from ptblm.checkpoint.format import load_checkpoint
from ptblm.config.loading import load_config
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.errors import DataError
from ptblm.run.setup import setup_run
from tests.conftest import Ptblm, plain_environment
from tests.run.helpers import metrics

TINY = ["--set", "model.hidden_size=8", "--set", "model.num_layers=1"]
TINY += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]
FAST = [*TINY, "--set", "training.epochs=2", "--run-dir", "run"]


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    """A text file of 200 lines, with a character that occurs only in the last 5%."""
    lines = [f"It was the year {number}; a café.\n" for number in range(1000, 1200)]
    path = tmp_path / "novel.txt"
    path.write_text("".join([*lines[:-1], "Ω the end\n"]))
    return path


def result(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "result.json").read_text()))


def test_character_run_on_one_file(ptblm: Ptblm, tmp_path: Path, novel: Path) -> None:
    run = ptblm("train", "--data", "novel.txt", "--tokenizer", "char", *FAST)
    assert run.returncode == 0, run.stderr
    assert "split       by position: 90% train, 5% valid, 5% test, at line ends" in run.stderr
    assert "corpus      novel: 27 characters, 5,400 training tokens" in run.stderr
    assert "unknown     3 characters of test become <unk>" in run.stderr
    results = result(tmp_path / "run")
    bits = math.log2(results["test_perplexity"])
    assert results["test_bits_per_character"] == pytest.approx(bits)
    assert results["test_bits_per_character_without_eos"] > 0
    epoch, test = metrics(tmp_path / "run")[-2:]
    assert epoch["valid_bits_per_character"] == results["valid_bits_per_character"]
    assert epoch["valid_bits_per_character"] == pytest.approx(math.log2(epoch["valid_perplexity"]))
    assert test["test_bits_per_character"] == results["test_bits_per_character"]
    assert f"test bits per character {bits:.4f}" in run.stdout

    # The test split is scored again from the checkpoint, in another directory.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    scored = ptblm("eval", tmp_path / "run", "--split", "test", "--json", cwd=elsewhere)
    score = json.loads(scored.stdout)
    assert score["text"].startswith("test split of novel, by position: 90% train")
    assert score["bits_per_character"] == pytest.approx(bits, rel=1e-6)
    without = results["test_bits_per_character_without_eos"]
    assert score["bits_per_character_without_eos"] == pytest.approx(without, rel=1e-6)
    assert score["unknown_characters"] == 3
    shown = ptblm("eval", "run").stdout
    assert f"bits         {bits:.4f} per character, {without:.4f} without <eos>" in shown
    assert "3 characters are not in the vocabulary" in shown

    # The same text as a file and on standard input.
    part = b"".join(novel.read_bytes().splitlines(keepends=True)[-10:])
    (tmp_path / "part.txt").write_bytes(part)
    by_file = json.loads(ptblm("eval", "run", "--text", "part.txt", "--json").stdout)
    by_pipe = json.loads(ptblm("eval", "run", "--text", "-", "--json", stdin=part.decode()).stdout)
    assert by_file["tokens"] == by_pipe["tokens"] == score["tokens"] == len(part.decode()) - 1
    assert by_file["perplexity"] == by_pipe["perplexity"] == score["perplexity"]


def test_byte_run_scores_any_file(ptblm: Ptblm, tmp_path: Path, novel: Path) -> None:
    run = ptblm(
        "train", "--data", novel, "--tokenizer", "byte", *TINY, "--set", "training.epochs=1"
    )
    assert run.returncode == 0, run.stderr
    (tmp_path / "runs" / "small-novel").rename(tmp_path / "run")  # named after the file
    size = novel.stat().st_size
    assert f"novel: 256 bytes, {size * 90 // 100:,} training tokens" in run.stderr
    assert run.stdout.splitlines()[-3].startswith("test bits per byte ")
    assert run.stdout.splitlines()[-1].startswith("test perplexity per word ")
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.safetensors")
    assert tuple(checkpoint.vocabulary["tokens"]) == make_tokenizer("byte").vocabulary.tokens
    assert "256 bytes" in ptblm("checkpoint", "show", "run").stdout
    any_bytes = bytes(range(256)) * 3 + b"\xff\xfe\n\r\n\x00"
    scored = subprocess.run(
        [sys.executable, "-m", "ptblm", "eval", "run", "--text", "-", "--json"],
        cwd=tmp_path,
        env=plain_environment(),
        input=any_bytes,
        capture_output=True,
        check=True,
    )
    score = json.loads(scored.stdout)
    assert score["tokens"] == len(any_bytes) - 1
    assert score["unknown_bytes"] == score["unk_tokens"] == 0
    assert score["bits_per_byte"] == pytest.approx(math.log2(score["perplexity"]))
    assert "bits_per_byte_without_eos" not in score
    (tmp_path / "any.bin").write_bytes(any_bytes)
    by_file = json.loads(ptblm("eval", "run", "--text", "any.bin", "--json").stdout)
    assert by_file["perplexity"] == score["perplexity"]


def test_character_run_resumes_with_the_same_metrics(
    ptblm: Ptblm, tmp_path: Path, novel: Path
) -> None:
    whole = ptblm("train", "--data", novel, "--tokenizer", "char", *FAST)
    assert whole.returncode == 0, whole.stderr
    (tmp_path / "run").rename(tmp_path / "whole")
    half = [*TINY, "--set", "training.epochs=1", "--run-dir", "run"]
    assert ptblm("train", "--data", novel, "--tokenizer", "char", *half).returncode == 0
    resumed = ptblm("train", "--resume", "run", "--set", "training.epochs=2")
    assert resumed.returncode == 0, resumed.stderr
    ours, theirs = (
        [record for record in metrics(tmp_path / name) if record["kind"] != "test"]
        for name in ("run", "whole")
    )
    assert ours == theirs
    changed = ptblm("train", "--resume", "run", "--tokenizer", "word")
    assert changed.returncode == 2
    assert "data.tokenizer: is 'word', but the run has 'char'" in changed.stderr
    novel.write_bytes(novel.read_bytes().replace(b"the end", b"The end"))
    rejected = ptblm("train", "--resume", "run")
    assert rejected.returncode == 3
    assert "the test split is not the text that the run began with" in rejected.stderr


def test_word_entropy_bound_is_not_used_for_characters(ptblm: Ptblm, tmp_path: Path) -> None:
    run = ptblm("train", "--data", "sample", "--tokenizer", "char", *FAST, "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "sample, 29 characters" in run.stdout
    assert "bound" not in run.stdout
    assert not (tmp_path / "run").exists()


def test_word_run_reports_bits_per_word(ptblm: Ptblm, tmp_path: Path, small_corpus: Path) -> None:
    run = ptblm("train", "--data", small_corpus, *FAST)
    assert run.returncode == 0, run.stderr
    results = result(tmp_path / "run")
    score = json.loads(ptblm("eval", "run", "--json").stdout)
    assert [key for key in results if "bits" in key] == [
        "train_bits_per_word",
        "valid_bits_per_word",
        "test_bits_per_word",
        "test_bits_per_word_without_eos",
    ]
    bits = math.log2(results["test_perplexity"])
    without = results["test_bits_per_word_without_eos"]
    assert results["test_bits_per_word"] == pytest.approx(bits)
    assert score["bits_per_word"] == pytest.approx(bits, rel=1e-6)
    assert score["bits_per_word_without_eos"] == pytest.approx(without, rel=1e-6)
    assert run.stdout.splitlines()[-2:] == [
        f"test bits per word {bits:.4f}",
        f"test bits per word without <eos> {without:.4f}",
    ]
    assert max(len(line) for line in run.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("content", "tokenizer", "message"),
    [
        (b"", "char", "too short to be split by position"),
        (b"one line without an end", "word", "the train split has 5 tokens"),
        (b"ok\n" * 50 + b"caf\xe9\n" + b"ok\n" * 50, "char", "any.txt:51"),
    ],
)
def test_unusable_file_is_a_data_error(
    content: bytes, tokenizer: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "any.txt"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        setup_run(
            load_config("small", [*TINY[1::2], f"data.path={path}", f"data.tokenizer={tokenizer}"])
        )
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["char", "byte"])
@pytest.mark.parametrize("text", ["a b c d e a b c d e a", "97 98 99 100 101 97 98 99"])
def test_passed_text_is_read_as_it_is(models: Path, name: str, text: str) -> None:
    """A file of this text would be read as `abcdeabcdea` or `abcdeabc`."""
    score = load(models / name, device="cpu").score(text)
    assert "".join(token.text for token in score[: len(text)]) == text
