"""`ptblm generate`: formats, prompts, seeds, unique texts, streams and signals."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ptblm.corpus.lines import lines_of
from ptblm.corpus.source import bytes_source
from ptblm.evaluation.sequence_scores import score_sequences
from ptblm.run.load_model import load_model
from ptblm.terminal import escape
from tests.conftest import FAST, plain_environment
from tests.in_process import ptblm
from tests.new_process import default_signals

pytestmark = pytest.mark.usefixtures("one_thread")

# Text that needs escapes: backslashes, tabs, control sequences, characters of several bytes.
LINES = ["the cat sat\\n on", "a\tdog <unk> caf\u00e9 \x1b[2J", "\u732b"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run for each tokenizer."""
    directory = tmp_path_factory.mktemp("runs")
    corpus = directory / "corpus"
    corpus.mkdir()
    for split in ("train", "valid", "test"):
        (corpus / f"{split}.txt").write_text("\n".join(LINES * 30) + "\n")
    found = {}
    for name in ("word", "char", "byte"):
        found[name] = directory / name
        options = ["--tokenizer", name, "--set", "training.learning_rate=0.5", *FAST]
        code, errors, _ = ptblm("train", "--data", corpus, "--run-dir", found[name], *options)
        assert code == 0, errors
    return found


@pytest.fixture(params=["word", "char", "byte"])
def run(request: pytest.FixtureRequest, runs: dict[str, Path]) -> Path:
    return runs[request.param]


def generate(run: Path, *options: object, seed: int | None = 1) -> str:
    """The output of a command that succeeds without a message."""
    seeded = [] if seed is None else ["--seed", seed]
    code, errors, output = ptblm("generate", run, *seeded, *options)
    assert (code, errors) == (0, "")
    # Only newlines and the tabs of a table are not escaped.
    assert all(field.isprintable() for line in output.split("\n") for field in line.split("\t"))
    return output


def records(run: Path, *options: object, seed: int = 1) -> list[dict[str, Any]]:
    output = generate(run, "--format", "jsonl", *options, seed=seed)
    return [json.loads(line) for line in output.splitlines()]


def shown(text: str) -> str:
    """A text as it is printed: on a line of its own, with escapes except for newlines."""
    characters = [
        f"\\x{ord(c) - 0xDC00:02x}"
        if "\udc80" <= c <= "\udcff"
        else c
        if c == "\n" or c.isprintable()
        else c.encode("unicode_escape").decode()
        for c in text.removesuffix("\n")
    ]
    return "".join([*characters, "\n"])


def test_one_text_is_the_first_of_many(run: Path) -> None:
    (first, *_) = records(run, "--tokens", 60, "--samples", 3)
    assert generate(run, "--tokens", 60) == shown(first["text"])
    assert first["tokens"] == 60


def test_seed_repeats_a_text(run: Path) -> None:
    code, errors, output = ptblm("generate", run)
    assert code == 0
    seed = int(re.fullmatch(r"note: seed (\d+); pass --seed \1 to .*\n", errors)[1])  # type: ignore[index]
    assert generate(run, seed=seed) == output
    assert generate(run, seed=seed + 1) != output
    assert ptblm("generate", run)[2] != output


def test_greedy_text_needs_no_seed(run: Path) -> None:
    expected = generate(run, "--temperature", 0, seed=None)
    assert generate(run, "--top-k", 1, seed=None) == expected
    assert generate(run, "--temperature", "1e-6") == expected


def test_batches_do_not_change_the_texts(run: Path) -> None:
    options = ["--sentences", 1, "--samples", 64, "--temperature", 0.9, "--prompt", "the "]
    whole, single = (records(run, *options, "--batch-size", size) for size in (64, 1))
    for one, other in zip(whole, single, strict=True):
        assert one.pop("logprob") == pytest.approx(other.pop("logprob"), rel=1e-9)
        assert one == other


def test_text_that_is_scored_again_has_its_log_probability(run: Path) -> None:
    loaded = load_model(run, "cpu")
    # As characters, the text <unk> is five tokens.
    options = ["--samples", 5, "--base", 2, *(["--no-unk"] if run.name == "char" else [])]
    for prompt in ("", "the cat"):
        found = records(run, "--sentences", 2, "--prompt", prompt, *options)
        for record in found:
            raw = (record["text"] + "\n").encode("utf-8", "surrogateescape")
            lines = lines_of(bytes_source("", raw), loaded.tokenizer)
            ids = np.concatenate([line.ids for line in lines])
            (scores,) = score_sequences(loaded.model, [ids], loaded.tokenizer.line_end_id)
            log_prob = record["logprob"] + record["prompt_logprob"]
            assert -scores.nll.sum() / math.log(2) == pytest.approx(log_prob, rel=1e-5)
            assert record["text"].startswith(prompt)
            assert (record["prompt"], record["base"], record["seed"]) == (prompt, "2", 1)
            if not prompt:
                assert str(record["prompt_logprob"]) == "0.0"
                assert record["tokens"] == len(ids)


def test_bases_differ_by_their_logarithm(run: Path) -> None:
    found = {base: records(run, "--base", base)[0]["logprob"] for base in ("2", "e", "10")}
    assert found["2"] == pytest.approx(found["e"] / math.log(2), rel=1e-12)
    assert found["10"] == pytest.approx(found["e"] / math.log(10), rel=1e-12)
    assert records(run)[0]["base"] == "e"


def test_table_has_the_values_of_the_records(run: Path) -> None:
    options = ["--samples", 5, "--tokens", 40, "--base", "10"]
    header, *rows = generate(run, "--format", "tsv", *options).removesuffix("\n").split("\n")
    assert header.split("\t") == ["sample", "tokens", "logprob_10", "text"]
    for row, record in zip(rows, records(run, *options), strict=True):
        number, tokens, log_prob, text = row.split("\t")
        assert (int(number), int(tokens)) == (record["sample"], 40)
        assert float(log_prob) == pytest.approx(record["logprob"], abs=1e-6)
        assert text.isprintable()
        plain = text.encode("latin-1", "backslashreplace").decode("unicode_escape")
        assert plain == record["text"]


@pytest.mark.parametrize(("sentences", "separator"), [(1, ""), (2, "\n")])
def test_texts_of_several_lines_are_separated(sentences: int, separator: str, run: Path) -> None:
    options = ["--samples", 4, "--sentences", sentences, "--temperature", 1.5]
    texts = [shown(record["text"] + "\n") for record in records(run, *options)]
    assert generate(run, *options) == separator.join(texts)


def test_prompt_is_printed_unless_unwanted(run: Path) -> None:
    options = ["--prompt", "the cat", "--tokens", 10]
    assert generate(run, *options, "--no-echo").startswith("the cat") is False
    (record,) = records(run, *options)
    (without,) = records(run, *options, "--no-echo")
    space = " " if run.name == "word" and not without["text"].startswith("\n") else ""
    assert record["text"] == "the cat" + space + without["text"]
    assert record["logprob"] == without["logprob"]
    assert generate(run, *options).startswith("the cat")


def test_empty_prompt_is_no_prompt(run: Path, tmp_path: Path) -> None:
    expected = generate(run)
    assert generate(run, "--prompt", "") == expected
    (tmp_path / "empty.txt").write_text("")
    assert generate(run, "--prompt-file", tmp_path / "empty.txt") == expected


def test_prompt_file_is_one_prompt(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_text("the cat\nthe")
    assert generate(run, "--prompt-file", path) == generate(run, "--prompt", "the cat\nthe")
    path.write_text("the cat\n")
    ended = records(run, "--prompt-file", path, "--tokens", 5)
    assert ended[0]["prompt"] == "the cat\n"
    continued = records(run, "--prompt", "the cat", "--tokens", 5)
    assert ended[0]["logprob"] != continued[0]["logprob"]


def test_unknown_words_of_the_prompt_are_noted(runs: dict[str, Path]) -> None:
    options = ["--seed", 1, "--prompt", "the xyzzy"]
    code, errors, output = ptblm("generate", runs["word"], *options)
    assert code == 0
    assert output.startswith("the <unk>")
    expected = "1 of 2 words of the prompt is not in the vocabulary and becomes <unk>: xyzzy"
    assert errors == f"note: {expected}\n"


def test_unk_is_not_generated_if_unwanted(runs: dict[str, Path]) -> None:
    options = ["--tokens", 300, "--temperature", 2]
    assert "<unk>" in generate(runs["word"], *options)
    assert "<unk>" not in generate(runs["word"], *options, "--no-unk")


def test_unique_texts_are_distinct_and_in_order(run: Path) -> None:
    options = ["--tokens", 1, "--top-k", 6]
    found = records(run, *options, "--samples", 6, "--unique")
    assert len({record["text"] for record in found}) == 6
    # They are the first occurrences among all samples.
    repeated = records(run, *options, "--samples", found[-1]["sample"])
    first = {record["text"]: record for record in reversed(repeated)}
    expected = sorted(first.values(), key=lambda record: int(record["sample"]))
    # The rounding of a sum depends on the number of samples that are drawn at once.
    assert found == [{**each, "logprob": pytest.approx(each["logprob"])} for each in expected]
    assert found[-1]["sample"] > 6
    again = records(run, *options, "--samples", 6, "--unique", "--batch-size", 1)
    assert [record["text"] for record in again] == [record["text"] for record in found]


def test_unique_texts_that_run_out_are_reported(run: Path) -> None:
    options = ["--tokens", 1, "--samples", 1000, "--unique", "--top-k", 2, "--seed", 1]
    code, errors, output = ptblm("generate", run, *options, "--format", "tsv")
    assert code == 0
    assert len(output.splitlines()) == 1 + 2
    assert errors == (
        "warning: only 2 distinct texts found: 1,000 samples in a row were repetitions\n"
    )


@pytest.mark.parametrize("samples", [1, 3])
def test_sentences_that_do_not_end_are_reported(
    samples: int, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ptblm.run.generate.MAX_SENTENCE_TOKENS", 1)
    options = ["--sentences", 5, "--samples", samples, "--seed", 1]
    code, errors, output = ptblm("generate", run, *options)
    assert code == 0
    assert output.endswith("\n")
    noun = "sample" if samples == 1 else "samples"
    assert errors == f"warning: {samples} {noun} did not reach 5 line ends within 5 tokens\n"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--tokens", 1, "--sentences", 1], 2, "--tokens and --sentences cannot be combined"),
        (["--prompt", "a", "--prompt-file", "b"], 2, "--prompt and --prompt-file cannot"),
        (["--temperature", -1], 2, "temperature -1: expected"),
        (["--temperature", "nan"], 2, "temperature nan: expected"),
        (["--temperature", "warm"], 2, "--temperature: Input should be a valid number"),
        (["--top-p", 0], 2, "top-p 0: expected"),
        (["--top-k", -1], 2, "--top-k: Input should be greater"),
        (["--tokens", 0], 2, "--tokens: Input should be greater"),
        (["--seed", 2**64], 2, "--seed: Input should be less"),
        (["--samples", 0], 2, "--samples: Input should be greater"),
        (["--prompt-file", "missing.txt"], 3, "cannot be read"),
        (["--prompt-file", ""], 2, "--prompt-file: expected a name"),
        (["--prompt", "caf\udce9"], 3, "not UTF-8"),
        (["--device", "cuda:99"], 2, "cuda"),
        (["--cell", "gru"], 2, "the checkpoint has lstm"),
    ],
)
def test_wrong_options(
    options: list[object], code: int, message: str, runs: dict[str, Path]
) -> None:
    found, errors, output = ptblm("generate", runs["word"], *options)
    assert (found, output) == (code, "")
    assert errors.startswith("error: ")
    assert message in errors
    assert "Traceback" not in errors


def test_missing_checkpoint(tmp_path: Path) -> None:
    code, errors, _ = ptblm("generate", tmp_path / "none")
    assert code == 4
    assert errors.startswith("error: ")


def test_memory_that_runs_out_is_reported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("ptblm.evaluation.generate.draw", failing)
    for samples in (1, 2):
        code, errors, _ = ptblm("generate", run, "--seed", 1, "--samples", samples)
        assert code == 2
        assert errors.startswith("error: out of memory during generation\n  hint: pass a lower")


def test_probabilities_that_are_not_finite_are_reported(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ptblm.model.heads.softmax.Softmax.log_probs",
        lambda head, features: torch.full((len(features), len(head.bias)), torch.nan),
    )
    for samples in (1, 2):
        code, errors, _ = ptblm("generate", run, "--seed", 1, "--samples", samples)
        assert code == 4
        assert errors.startswith("error: the probabilities of the model are not finite\n  at: ")


ENDLESS = ["--seed", "1", "--tokens", str(10**9)]


def start(run: Path, *options: str, stdout: int) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "ptblm", "generate", str(run), *options],
        env={**plain_environment(), "OMP_NUM_THREADS": "1"},
        stdout=stdout,
        stderr=subprocess.PIPE,
        preexec_fn=default_signals,
    )


@pytest.mark.parametrize("options", [ENDLESS, ["--seed", "1", "--samples", str(10**9)]])
def test_closed_pipe_ends_quietly(options: list[str], runs: dict[str, Path]) -> None:
    process = start(runs["word"], *options, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(100)) == 100
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The descriptors of both ends of a terminal."""
    pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")
    ends = pty.openpty()
    yield ends
    for end in ends:
        os.close(end)


def test_text_is_typed_until_it_is_interrupted(
    terminal: tuple[int, int], runs: dict[str, Path]
) -> None:
    reader, writer = terminal
    process = start(runs["word"], *ENDLESS, stdout=writer)
    text = b""
    while len(text) < 300:  # of a text that never ends
        text += os.read(reader, 100)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == b""
    os.set_blocking(reader, False)
    while True:
        try:
            text += os.read(reader, 10_000)
        except BlockingIOError:
            break
    assert text.endswith(b"\r\n")
    assert not text.endswith(b"\r\n\r\n")
    words = {word for line in LINES for word in line.split()} | {"<unk>"}
    assert set(text.decode().split()) <= set(map(escape, words))
