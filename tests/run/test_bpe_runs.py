"""Runs with byte-pair encoding: training, evaluation, scores, text, resuming, other commands."""

import json
import math
import mmap
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.corpus import corpus as corpus_module
from ptblm.corpus.corpus import load_corpus
from ptblm.corpus.reader import read_corpus
from ptblm.corpus.splits import locate_corpus
from ptblm.corpus.tokenizer_file import tokenizer_document
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import CheckpointError
from ptblm.evaluation.minimal_pairs.spans import Reader
from ptblm.run.load_model import load_model
from tests.conftest import FAST, Ptblm, write_small_corpus
from tests.corpus.helpers import data_config
from tests.evaluation.pairs_files import ONE_PREFIX, SUITE, TWO_PREFIXES
from tests.in_process import ptblm as in_process
from tests.run.helpers import assert_same_end, copy_run, last_checkpoint

pytest.importorskip("tokenizers")

BPE = ["--tokenizer", "bpe", *FAST, "--set", "run.checkpoint_every=10 steps"]
BPE += ["--set", "run.keep_checkpoints=99", "--set", "run.log_every=7"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_corpus(tmp_path_factory.mktemp("bpe") / "corpus")


@pytest.fixture(scope="module")
def learned(corpus: Path) -> Path:
    """A run that learned its vocabulary. Tests must not change it."""
    directory = corpus.parent / "learned"
    options = ["--data", corpus, "--set", "data.vocabulary.size=270", "--run-dir", directory]
    code, errors, output = in_process("train", *BPE, *options)
    assert code == 0, errors
    (corpus.parent / "summary.txt").write_text(output)
    return directory


@pytest.fixture(scope="module")
def given(corpus: Path, learned: Path) -> Path:
    """A run with the vocabulary of a tokenizer.json, which was deleted at the end."""
    file, directory = corpus.parent / "tokenizer.json", corpus.parent / "given"
    vocabulary = load_checkpoint(last_checkpoint(learned)).parsed_vocabulary()
    file.write_text(json.dumps(tokenizer_document(vocabulary)))
    options = ["--data", corpus, "--set", f"data.vocabulary.file={file}", "--run-dir", directory]
    code, errors, _ = in_process("train", *BPE, *options)
    assert code == 0, errors
    file.unlink()
    return directory


def as_json(ptblm: Ptblm, *arguments: object, stdin: str = "") -> dict[str, Any]:
    result = ptblm(*arguments, "--json", stdin=stdin)
    assert result.returncode == 0, result.stderr
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def test_new_process_evaluates_the_run(learned: Path, corpus: Path, ptblm: Ptblm) -> None:
    result = json.loads((learned / "result.json").read_text())
    # Eight times 14 words in three lines; one token is not a target.
    words, size = 8 * (14 + 3), (corpus / "test.txt").stat().st_size
    bits = math.log2(result["test_perplexity"]) * result["test_tokens"]
    assert result["test_perplexity_per_word"] == pytest.approx(2 ** (bits / words))
    assert result["test_bits_per_byte"] == pytest.approx(bits / size)
    assert result["valid_perplexity_per_word"] == pytest.approx(
        2 ** (result["valid_bits_per_subword"] * result["test_tokens"] / words)
    )
    found = as_json(ptblm, "eval", learned)
    assert (found["words"], found["bytes"]) == (words, size)
    for name in ("perplexity", "perplexity_per_word", "bits_per_byte", "bits_per_subword"):
        assert found[name] == pytest.approx(result[f"test_{name}"], rel=1e-6)
    summary = (corpus.parent / "summary.txt").read_text()
    assert f"test perplexity per word {found['perplexity_per_word']:.2f}\n" in summary
    assert f"test bits per byte {found['bits_per_byte']:.4f}\n" in summary


@pytest.mark.parametrize(
    ("text", "words", "size"),
    [
        ("the cat sat\n", 3 + 1, 12),
        ("a  dog\n\n the cat", 4 + 3, 7 + 1 + 8),
        ("café 😀\tx\n", 3 + 1, 5 + 1 + 4 + 1 + 1 + 1),
    ],
)
def test_measures_are_those_counted_by_hand(
    text: str, words: int, size: int, learned: Path, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    code, errors, rows = in_process("score", learned, path, "--mode", "stream", "--base", "e")
    assert code == 0, errors
    values = [row.split("\t")[3] for row in rows.splitlines()[1:]]
    nats = sum(float(value) for value in values if value != "NA")
    code, errors, output = in_process("eval", learned, "--text", path, "--json")
    found = json.loads(output)
    assert found["perplexity_per_word"] == pytest.approx(math.exp(nats / words), rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-6)
    assert found["perplexity"] == pytest.approx(math.exp(nats / (len(values) - 1)), rel=1e-6)


def test_scores_of_words_and_sentences_add_up(learned: Path, ptblm: Ptblm) -> None:
    text = " the  cat sät 😀\n\nthe dog\n"
    tokens, words, sentences = (
        [
            row.split("\t")
            for row in ptblm("score", learned, "--format", name, stdin=text).stdout.splitlines()[1:]
        ]
        for name in ("tsv", "words", "sentences")
    )
    assert [row[2] for row in words] == [
        "the",
        "cat",
        "sät",
        "😀",
        *["<eos>"] * 2,
        "the",
        "dog",
        "<eos>",
    ]
    for line in ("1", "2", "3"):
        expected = sum(float(row[3]) for row in tokens if row[0] == line)
        assert sum(float(row[3]) for row in words if row[0] == line) == pytest.approx(expected)
        (row,) = (row for row in sentences if row[0] == line)
        assert float(row[3]) == pytest.approx(expected)
        nats, count = expected * math.log(2), {"1": 5, "2": 1, "3": 3}[line]
        assert float(row[-1]) == pytest.approx(math.exp(nats / count))
    spelled = "".join(row[2] for row in tokens if row[0] == "1")
    assert spelled.replace("\\xc3\\xa4", "ä").replace("\\xf0\\x9f\\x98\\x80", "😀") == (
        " the  cat sät 😀<eos>"
    )


def test_text_is_generated_in_lines(learned: Path, ptblm: Ptblm) -> None:
    options = ["--prompt", "the cat", "--sentences", "2", "--seed", "3"]
    first = ptblm("generate", learned, *options)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("the cat")
    assert first.stdout.count("\n") == 2
    assert ptblm("generate", learned, *options).stdout == first.stdout


@pytest.mark.parametrize("name", ["learned", "given"])
def test_new_process_resumes_bit_exactly(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, ptblm: Ptblm
) -> None:
    whole: Path = request.getfixturevalue(name)
    directory = copy_run(whole, tmp_path)
    last = last_checkpoint(directory)
    last.with_name("step-000000030.safetensors").replace(last)
    again = ptblm("train", "--resume", directory)
    assert again.returncode == 0, again.stderr
    assert_same_end(directory, whole)


def test_checkpoint_contains_the_tokenizer(learned: Path, given: Path, ptblm: Ptblm) -> None:
    assert not (given.parent / "tokenizer.json").exists()
    ours, theirs = (load_model(run).tokenizer.vocabulary for run in (given, learned))
    assert ours.symbols == theirs.symbols
    assert ours.counts == theirs.counts
    assert as_json(ptblm, "eval", given)["perplexity"] > 1


def test_run_takes_the_vocabulary_of_another(learned: Path, corpus: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    options = ["--data", corpus, "--run-dir", other, "--set", f"data.vocabulary.file={learned}"]
    assert in_process("train", *BPE, *options)[0] == 0
    assert in_process("train", *BPE[2:], "--init", learned, "--run-dir", tmp_path / "init")[0] == 0
    vocabulary = load_model(learned).tokenizer.vocabulary
    for run in (other, tmp_path / "init"):
        assert load_model(run).tokenizer.vocabulary.symbols == vocabulary.symbols


@pytest.mark.parametrize("change", ["merge", "token", "number"])
def test_damaged_vocabulary_is_a_checkpoint_error(
    change: str, learned: Path, tmp_path: Path
) -> None:
    checkpoint = load_checkpoint(last_checkpoint(learned))
    if change == "merge":
        checkpoint.vocabulary["merges"][0] = "q q"
    elif change == "token":
        checkpoint.vocabulary["tokens"][-1] = "\u2581x"
    else:
        checkpoint.vocabulary["merges"][0] = 7
    save_checkpoint(tmp_path / "bad.safetensors", checkpoint)
    with pytest.raises(CheckpointError):
        load_model(tmp_path / "bad.safetensors")


def test_cache_depends_on_the_merges(
    corpus: Path, learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "MIN_CACHED_SIZE", 1)
    monkeypatch.setenv("PTBLM_CACHE", str(tmp_path / "cache"))
    config = data_config(corpus, "bpe", vocabulary={"size": 270})
    vocabulary = load_model(learned).tokenizer.vocabulary
    fewer = Vocabulary(vocabulary.tokens, vocabulary.counts, vocabulary.merges[:-5])
    for given in (None, vocabulary, fewer):
        first, second = load_corpus(config, given), load_corpus(config, given)
        assert isinstance(second.memory, mmap.mmap)
        plain = read_corpus(locate_corpus(config), config, given)
        for found in (first, second):
            assert found.vocabulary.symbols == (given or vocabulary).symbols
            assert found.vocabulary.counts == plain.written.tokenizer.vocabulary.counts
            for split, text in plain.splits.items():
                assert np.array_equal(found.splits[split].ids, text.ids)
                assert found.splits[split].size == text.size


def test_parts_of_a_sentence_have_the_tokens_of_the_sentence(learned: Path) -> None:
    loaded = load_model(learned)
    reader = Reader(loaded.model, loaded.tokenizer)
    parts = [
        reader.part("the cat", first=True),
        reader.part("sat on"),
        [],
        reader.part(" the mat", last=True),
    ]
    assert list(chain(*parts)) == loaded.tokenizer.tokens_of("the cat sat on the mat")


def test_minimal_pairs_are_judged(learned: Path, tmp_path: Path, ptblm: Ptblm) -> None:
    pairs, suite = tmp_path / "pairs.jsonl", tmp_path / "suite.json"
    pairs.write_text(f"{json.dumps(ONE_PREFIX)}\n{json.dumps(TWO_PREFIXES)}\n")
    suite.write_text(json.dumps(SUITE))
    for path in (pairs, suite):
        result = ptblm("pairs", learned, path)
        assert result.returncode == 0, result.stderr


def test_commands_that_need_words_say_so(learned: Path, ptblm: Ptblm) -> None:
    for options in (["--tokenize", "ptb"], ["--format", "srilm"]):
        result = ptblm("score", learned, *options, stdin="the\n")
        assert result.returncode == 2
        assert "the tokens of the model are subwords" in result.stderr
