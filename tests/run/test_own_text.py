"""Texts without preparation: trained on, evaluated and resumed with the command line."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptblm.checkpoint.format import load_checkpoint
from tests.conftest import plain_environment
from tests.in_process import ptblm

pytestmark = pytest.mark.usefixtures("in_directory")

SMALL = ["--set", "model.hidden_size=8", "--set", "training.epochs=1", "--device", "cpu"]


def novel(words: int = 12_000, seed: int = 1) -> str:
    """A text with the word frequencies of prose (Zipf's law), punctuation and few paragraphs."""
    rng = random.Random(seed)
    types = [f"{rng.choice('bcdfghklmnprst')}{rng.choice('aeiouéï')}w{n}" for n in range(5000)]
    weights = [1 / (n + 1) for n in range(len(types))]
    chosen = rng.choices(types, weights, k=words)
    paragraphs = (chosen[n : n + 70] for n in range(0, words, 70))
    return "\n\n".join(" ".join(p).capitalize() + ", “so”." for p in paragraphs) + "\n"


def train(*arguments: object, data: str = "novel.txt", run: str = "run") -> tuple[str, str]:
    """Trains a small model; returns stderr and stdout."""
    code, errors, output = ptblm("train", *SMALL, "--data", data, "--run-dir", run, *arguments)
    assert code == 0, errors
    return errors, output


def result(run: str = "run") -> dict[str, object]:
    return dict(json.loads(Path(run, "result.json").read_text()))


def evaluate(*arguments: object, run: str = "run") -> dict[str, Any]:
    code, errors, output = ptblm("eval", run, "--json", *arguments)
    assert code == 0, errors
    return dict(json.loads(output))


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
def test_novel_needs_no_preparation(tokenizer: str) -> None:
    Path("novel.txt").write_text(novel())
    errors, output = train("--tokenizer", tokenizer)
    assert "by position: 90% train, 5% valid, 5% test" in errors
    assert ("rare words and become <unk> (data.vocabulary.min_count: 2)" in errors) == (
        tokenizer == "word"
    )
    assert "test perplexity" in output
    Path("new.txt").write_text("A sentence with unheard-of words.\n")
    assert evaluate("--text", "new.txt")["tokens"] == {"word": 5, "char": 33, "byte": 33}[tokenizer]


def test_windows_novel_equals_a_unix_novel() -> None:
    text = novel(4000)
    Path("unix.txt").write_text(text)
    windows = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    Path("windows.txt").write_bytes(windows)
    Path("windows.txt.gz").write_bytes(gzip.compress(windows))
    Path("utf16.txt").write_bytes(text.replace("\n", "\r").encode("utf-16"))
    for name in ("unix.txt", "windows.txt", "windows.txt.gz", "utf16.txt"):
        train(data=name, run=name + "-run")
        assert result(name + "-run")["test_perplexity"] == result("unix.txt-run")["test_perplexity"]
        theirs = evaluate("--text", name, run="unix.txt-run")
        ours = evaluate("--text", "unix.txt", run="unix.txt-run")
        assert theirs["nats_per_token"] == ours["nats_per_token"]


def test_standard_input_equals_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("novel.txt").write_text(novel(3000))
    train("--tokenizer", "char")
    spaced = "\n".join(" ".join(line.replace(" ", "_")) for line in novel(300).split("\n"))
    for content in (spaced.encode(), gzip.compress(spaced.encode()), novel(300).encode("utf-16")):
        Path("text").write_bytes(content)
        with Path("text").open() as file:
            monkeypatch.setattr(sys, "stdin", file)
            from_stdin = evaluate("--text", "-")
        from_file = evaluate("--text", "text")
        assert from_stdin["nats_per_token"] == from_file["nats_per_token"]
        assert from_stdin["tokens"] == len(novel(300)) - 1
        assert from_stdin["notes"] == from_file["notes"] != []


def test_marks_do_not_lower_the_perplexity() -> None:
    text = novel(3000)
    for name in ("bare", "marked"):
        lines = [f"<s> {line} </s>" if name == "marked" else line for line in text.splitlines()]
        Path(f"{name}.txt").write_text("\n".join(line for line in lines if "w" in line) + "\n")
        train(data=f"{name}.txt", run=name)
    # The boundaries of the splits depend on the cleaned text, which is the same.
    assert result("marked")["test_perplexity"] == result("bare")["test_perplexity"]
    assert result("marked")["test_tokens"] == result("bare")["test_tokens"]


def test_run_is_resumed_with_its_own_vocabulary() -> None:
    Path("novel.txt").write_text(novel(3000))
    Path("words.txt").write_text("so\nbaw1\n")
    train("--set", "data.vocabulary.file=words.txt")
    tokens = load_checkpoint(Path("run/checkpoints/last.safetensors")).vocabulary["tokens"]
    assert tokens == ["<eos>", "<unk>", "so", "baw1"]
    Path("words.txt").unlink()
    train("--set", "data.vocabulary.file=words.txt", "--resume", "auto")  # a relative path
    code, errors, _ = ptblm("train", "--resume", "run", "--set", "training.epochs=2")
    assert code == 0, errors
    assert result()["epochs"] == 2


def test_vocabulary_of_another_run() -> None:
    Path("novel.txt").write_text(novel(3000))
    Path("other.txt").write_text(novel(3000, seed=2))
    train()
    for file in ("run", "run/checkpoints/best.safetensors"):
        train("--set", f"data.vocabulary.file={file}", "--overwrite", data="other.txt", run="b")
        ours, theirs = (
            load_checkpoint(Path(run, "checkpoints/last.safetensors")).vocabulary
            for run in ("run", "b")
        )
        assert ours["tokens"] == theirs["tokens"]
        assert ours["counts"] != theirs["counts"]
    code, errors, _ = ptblm(
        "train", "--data", "other.txt", "--tokenizer", "char",
        "--set", "data.vocabulary.file=run", "--run-dir", "c",
    )  # fmt: skip
    assert code == 2
    assert "has word tokens" in errors


def test_evaluation_can_change_how_the_text_is_read() -> None:
    Path("novel.txt").write_text(novel(3000))
    train()
    Path("latin.txt").write_bytes("L'été <s>\n".encode("latin-1"))
    code, errors, _ = ptblm("eval", "run", "--text", "latin.txt")
    assert code == 3
    assert "--set data.encoding=latin-1" in errors
    found = evaluate("--text", "latin.txt", "--set", "data.encoding=latin-1")
    assert found["tokens"] == 1
    kept = evaluate(
        "--text", "latin.txt", "--set", "data.encoding=latin-1", "--set", "data.marks=keep"
    )
    assert kept["tokens"] == 2
    code, errors, _ = ptblm("eval", "run", "--text", "latin.txt", "--set", "data.tokenizer=char")
    assert code == 2
    assert "can only change data.encoding, data.format, data.marks, data.vocabulary.unk" in errors


def test_text_that_is_mostly_unknown_gets_a_warning() -> None:
    Path("novel.txt").write_text(novel(3000))
    train()
    Path("upper.txt").write_text(novel(300).upper())
    (note,) = evaluate("--text", "upper.txt")["notes"]
    assert "of the words are not in the vocabulary" in note
    assert "the vocabulary is in lower case" in note


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_text_from_process_substitution() -> None:
    Path("novel.txt").write_text(novel(3000))
    train()
    command = [sys.executable, "-m", "ptblm"]
    script = f"""
    {" ".join(command)} train {" ".join(SMALL)} --data <(cat novel.txt) --run-dir b &&
    {" ".join(command)} eval run --text <(head -20 novel.txt) --json > a.json &&
    {" ".join(command)} train --resume b --set training.epochs=2
    """
    done = subprocess.run(
        ["bash", "-c", script], env=plain_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "the text came from a pipe" in done.stderr
    assert result("b")["test_perplexity"] == result()["test_perplexity"]
    assert json.loads(Path("a.json").read_text())["tokens"] > 100


@pytest.mark.parametrize(
    ("directory", "variables"),
    [
        ("œuvre", {"LC_ALL": "C"}),  # Python then uses UTF-8
        ("texts", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
        ("texts", {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "latin-1"}),
    ],
)
def test_any_locale_reads_utf8(directory: str, variables: dict[str, str]) -> None:
    Path(directory).mkdir()
    Path(directory, "novel.txt").write_text(novel(2000), encoding="utf-8")
    Path(directory, "closed.txt").write_text("naïve\n" * 40 + "œuvre\n" * 4, encoding="utf-8")
    for text, closed, code in (("novel.txt", "false", 0), ("closed.txt", "true", 3)):
        command = [sys.executable, "-m", "ptblm", "train", *SMALL, "--data", f"{directory}/{text}"]
        command += ["--run-dir", f"{directory}/{text}-run"]
        command += ["--set", f"data.vocabulary.closed={closed}"]
        environment = {**plain_environment(), **variables}
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        assert done.returncode == code, done.stderr
        assert b"Traceback" not in done.stderr
