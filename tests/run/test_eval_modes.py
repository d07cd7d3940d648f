"""`ptblm eval --mode` and `--vocab-pad`: what is scored, and what is reported."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.conftest import FAST
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

TEXT = "the cat ran\n\nthe dog\na dog  sat\n!ARTICLE\n\nthe xyzzy mat"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with a model of words, one of characters and one of bytes."""
    directory = tmp_path_factory.mktemp("modes")
    with contextlib.chdir(directory):
        lines = ["the cat sat on the mat", "a dog <unk> the cat", "the dog ran"]
        Path("text.txt").write_text("\n".join(lines * 60) + "\n")
        Path("new.txt").write_text(TEXT)
        for tokenizer in ("word", "char", "byte"):
            options = ["--tokenizer", tokenizer, "--run-dir", tokenizer, "--data", "text.txt"]
            code, errors, _ = ptblm("train", *FAST, *options)
            assert code == 0, errors
        yield directory


def evaluate(*options: str) -> dict[str, Any]:
    code, errors, output = ptblm("eval", *options, "--json")
    assert code == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


@pytest.mark.parametrize(
    ("tokenizer", "mode", "tokens"),
    [
        ("word", "stream", 18),
        ("word", "sentence", 19),
        ("word", "document", 15),
        ("char", "stream", len(TEXT)),
        ("char", "sentence", len(TEXT) + 1),
        ("char", "document", len(TEXT) + 1 - len("\n!ARTICLE\n\n")),
        ("byte", "stream", len(TEXT) - 1),
        ("byte", "sentence", len(TEXT) + 1),
        ("byte", "document", len(TEXT) + 1 - len("\n!ARTICLE\n\n")),
    ],
)
def test_each_mode_scores_its_tokens(
    run: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str, mode: str, tokens: int
) -> None:
    monkeypatch.chdir(run)
    result = evaluate(tokenizer, "--text", "new.txt", "--mode", mode)
    assert result["tokens"] == tokens
    assert result["protocol"].startswith(
        {"stream": "one stream", "sentence": "sentences", "document": "documents"}[mode]
    )
    nats, perplexity = result["nats_per_token"], result["perplexity"]
    assert perplexity == pytest.approx(math.exp(nats))
    if tokenizer != "word":
        # Words and line ends: 7 lines, of which a document excludes 3.
        words = 12 + 7 if mode != "document" else 11 + 4
        assert result["words"] == words
        assert result["perplexity_per_word"] == pytest.approx(math.exp(nats * tokens / words))


def test_document_without_blank_lines_is_the_stream_with_its_first_token(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    Path("one.txt").write_text("the cat\nthe dog ran\n")
    Path("first.txt").write_text("the\n")
    documents = evaluate("word", "--text", "one.txt", "--mode", "document")
    sentences = evaluate("word", "--text", "one.txt", "--mode", "sentence")
    assert documents["tokens"] == sentences["tokens"] == 7
    assert documents["perplexity"] != sentences["perplexity"]


def test_unknown_words_are_counted_in_each_mode(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    found = [
        evaluate("word", "--text", "new.txt", "--mode", mode)["unknown_words"]
        for mode in ("stream", "sentence", "document")
    ]
    assert found == [2, 2, 1]  # !ARTICLE is a word, unless it divides documents


def test_padded_vocabulary_divides_the_probability_of_unk(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    plain = evaluate("word", "--text", "new.txt", "--vocab-pad", "10")  # the vocabulary's own size
    assert plain["perplexity_with_padded_vocabulary"] == pytest.approx(plain["perplexity"])
    padded = evaluate("word", "--text", "new.txt", "--vocab-pad", "109")
    added = padded["unk_tokens"] * math.log(100) / padded["tokens"]
    expected = padded["perplexity"] * math.exp(added)
    assert padded["unk_tokens"] == 2
    assert padded["perplexity_with_padded_vocabulary"] == pytest.approx(expected)


@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_unigram_perplexity_is_that_of_the_training_counts(
    run: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.chdir(run)
    vocabulary = load_checkpoint(Path("word/checkpoints/last.safetensors")).vocabulary
    counts = dict(zip(vocabulary["tokens"], vocabulary["counts"], strict=True))
    total = sum(counts.values()) + len(counts)
    words = ["the", "cat", "<eos>", "the", "dog", "<eos>"][mode == "stream" :]
    nats = [-math.log((counts[word] + 1) / total) for word in words]
    Path("short.txt").write_text("the cat\nthe dog\n")
    found = evaluate("word", "--text", "short.txt", "--mode", mode)["unigram_perplexity"]
    assert found == pytest.approx(math.exp(sum(nats) / len(nats)))


def test_vocabulary_cannot_be_padded_to_less(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    code, errors, _ = ptblm("eval", "word", "--text", "new.txt", "--vocab-pad", "9")
    assert code == 2
    assert "the vocabulary has 10 tokens" in errors


def test_huge_perplexity_is_shown_in_short_form(run: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(last_checkpoint(run / "word"))
    checkpoint.model["head.weight"].zero_()
    checkpoint.model["head.bias"].fill_(-100.0)[0] = 100.0
    path = tmp_path / "sharp.safetensors"
    save_checkpoint(path, checkpoint)
    text = tmp_path / "new.txt"
    text.write_text("the cat " * 50)
    code, _, output = ptblm("eval", path, "--text", text)
    assert code == 0
    assert re.search(r"^perplexity +\d\.\d+e\+\d+;", output, re.MULTILINE)


def test_text_without_a_document_is_an_error(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    Path("blank.txt").write_text("!ARTICLE\n\n \n")
    code, errors, _ = ptblm("eval", "word", "--text", "blank.txt", "--mode", "document")
    assert code == 3
    assert "only lines that divide documents" in errors
