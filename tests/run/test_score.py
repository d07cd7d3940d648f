"""`ptblm score`: agreement with `eval`, all kinds of input, and the options."""

import csv
import gzip
import io
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from threading import Timer

import numpy as np
import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.conftest import plain_environment
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = 'the cat xyzzy\n\nthe dog "NA"\na dog  sat .\n!ARTICLE\n\nthe mat é'
TOKENIZERS = ("word", "char", "byte")
MODES = ("sentence", "document", "stream")


def score(checkpoint: Path, text: Path, *options: str) -> list[dict[str, str]]:
    """The rows that `ptblm score` prints."""
    code, errors, output = ptblm("score", checkpoint, text, *options)
    assert code == 0, errors
    return rows(output)


def rows(output: str) -> list[dict[str, str]]:
    lines = [line for line in output.split("\n") if not line.startswith("# ")]
    return list(csv.DictReader(lines, delimiter="\t", strict=True))


def surprisal(table: Iterable[dict[str, str]]) -> list[float]:
    return [float(row["surprisal"]) for row in table if row["surprisal"] != "NA"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "new.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize("end", ["\n", ""], ids=["newline", "none"])
@pytest.mark.parametrize(("tokenizer", "mode"), list(itertools.product(TOKENIZERS, MODES)))
def test_surprisals_add_up_to_eval(
    models: Path, text: Path, tokenizer: str, mode: str, end: str
) -> None:
    text.write_text("\n".join([TEXT] * 20) + end, encoding="utf-8")
    code, errors, output = ptblm(
        "eval", models / tokenizer, "--text", text, "--mode", mode, "--json"
    )
    assert code == 0, errors
    expected = json.loads(output)
    nats = expected["nats_per_token"] * expected["tokens"]
    for name in ("tsv", "words", "sentences"):
        table = score(models / tokenizer, text, "--mode", mode, "--format", name, "--base", "e")
        total = sum(surprisal(table))
        if (name, mode) == ("words", "stream") and tokenizer != "word":
            continue  # the first word has no surprisal, because its first character has none
        assert total == pytest.approx(nats, rel=1e-9)
        if name == "tsv":
            assert len(surprisal(table)) == expected["tokens"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_rows_follow_the_text(models: Path, text: Path, tokenizer: str) -> None:
    table = score(models / tokenizer, text)
    lines = TEXT.split("\n")
    end = "\\n" if tokenizer == "byte" else "<eos>"
    for number, line in enumerate(lines, start=1):
        found = [row for row in table if row["sentence_id"] == str(number)]
        tokens = line.split() if tokenizer == "word" else list(line)
        if tokenizer == "byte":
            tokens = [c if c.isascii() else f"\\x{ord(c):02x}" for c in bytes_of(line)]
        expected = ["\\x4eA" if token == "NA" else token for token in [*tokens, end]]
        assert [row["token"] for row in found] == expected
        assert [row["token_id"] for row in found] == [str(i + 1) for i in range(len(expected))]
    assert {row["sentence_id"] for row in table} == {str(k + 1) for k in range(len(lines))}


def bytes_of(line: str) -> str:
    return line.encode().decode("latin-1")


def test_documents_leave_out_the_lines_that_divide_them(models: Path, text: Path) -> None:
    table = score(models / "word", text, "--mode", "document", "--format", "sentences")
    assert [row["sentence_id"] for row in table] == ["1", "3", "4", "7"]


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_batches_do_not_change_the_order(models: Path, text: Path, tokenizer: str) -> None:
    text.write_text("\n".join("the cat sat . " * (k * 7 % 13) for k in range(150)))
    together = score(models / tokenizer, text)
    alone = score(models / tokenizer, text, "--batch-size", "1")
    assert [row["sentence_id"] for row in together] == [row["sentence_id"] for row in alone]
    np.testing.assert_allclose(surprisal(together), surprisal(alone), rtol=1e-5)


def test_one_at_a_time_is_reproducible_in_new_processes(models: Path, text: Path) -> None:
    command = [sys.executable, "-m", "ptblm", "score", str(models / "word"), str(text)]
    command += ["--batch-size", "1", "--columns", "entropy,rank", "--top", "2"]
    environment = {**plain_environment(), "OMP_NUM_THREADS": "1"}
    first, second = (subprocess.check_output(command, env=environment) for _ in range(2))
    assert first == second
    assert len(first.splitlines()) > 10


def test_columns_do_not_change_the_surprisal(models: Path, text: Path) -> None:
    columns = "length,entropy,rank,unknown,frequency,entropy_reduction,surprisal"
    table = score(models / "char", text, "--columns", columns, "--top", "3")
    assert surprisal(table) == surprisal(score(models / "char", text))
    assert list(table[0])[:6] == [
        "sentence_id",
        "token_id",
        "token",
        "surprisal",
        *["length", "entropy"],
    ]


def test_more_predictions_than_tokens(models: Path, text: Path) -> None:
    table = score(models / "word", text, "--top", "100")
    ranks = [name for name in table[0] if name.endswith("_surprisal")]
    probabilities = [2 ** -float(table[0][name]) for name in ranks]
    assert sum(probabilities) == pytest.approx(1, abs=1e-6)
    assert probabilities == sorted(probabilities, reverse=True)


@pytest.mark.parametrize(
    ("content", "note"),
    [
        (b"the cat\r\nthe dog\r\n", "line ends"),
        (b"\xef\xbb\xbfthe cat\nthe dog\n", "byte order mark"),
        (b"the cat\nthe dog", None),
        ("the cat\nthe dog\n".encode("utf-16"), None),
        (gzip.compress(b"the cat\nthe dog\n", mtime=0), None),
    ],
)
def test_same_text_in_other_forms(
    models: Path, text: Path, content: bytes, note: str | None
) -> None:
    text.write_bytes(b"the cat\nthe dog\n")
    expected = score(models / "word", text)
    text.write_bytes(content)
    code, errors, output = ptblm("score", models / "word", text)
    assert code == 0, errors
    assert rows(output) == expected
    assert note is None or note in errors


def test_byte_order_is_recognized_as_in_eval(models: Path, text: Path) -> None:
    text.write_bytes(b"the cat\nthe dog\n")
    expected = score(models / "word", text)
    for encoding in ("utf-16-le", "utf-16-be"):
        text.write_bytes("the cat\nthe dog\n".encode(encoding))
        assert score(models / "word", text, "--set", "data.encoding=utf-16") == expected


def test_long_line(models: Path, text: Path) -> None:
    """A line in a batch with short lines is not padded to their number times its length."""
    text.write_text("the dog\n" * 80 + "the cat sat on " * 20_000 + "\nthe dog\n")
    table = score(models / "word", text, "--format", "sentences")
    assert [row["tokens"] for row in table[79:]] == ["3", "80001", "3"]
    assert table[79]["surprisal"] == table[81]["surprisal"]
    mean = float(table[80]["mean"])
    text.write_text("the cat sat on " * 2000)
    (shorter,) = score(models / "word", text, "--format", "sentences")
    assert mean == pytest.approx(float(shorter["mean"]), rel=1e-2)


@pytest.mark.parametrize("content", ["", "</s>\n"])
def test_empty_text(models: Path, text: Path, content: str) -> None:
    text.write_text(content)
    code, errors, output = ptblm("score", models / "word", text)
    assert (code, output) == (0, "sentence_id\ttoken_id\ttoken\tsurprisal\n")
    assert errors.endswith(f"note: {text}: the text is empty\n")


def test_standard_input_is_read_to_its_end(
    models: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    code, errors, output = ptblm("score", models / "word")
    assert code == 0, errors
    assert rows(output) == score(models / "word", text)


def test_typed_line_is_scored_before_the_next_one(models: Path) -> None:
    """In a terminal, the answer to a line appears when the line is complete."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ptblm", "score", str(models / "word")]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=plain_environment(),
    )
    os.close(slave)
    timer = Timer(60, process.kill)
    timer.start()
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"sentence_id")
        for number, word in enumerate(["cat", "dog"], start=1):
            os.write(master, f"{word}\n".encode())
            assert process.stdout.readline().startswith(f"{number}\t1\t{word}\t".encode())
            assert process.stdout.readline().startswith(f"{number}\t2\t<eos>\t".encode())
        os.write(master, b"\x04")
        assert process.wait(timeout=60) == 0
    timer.cancel()
    os.close(master)


def test_closed_pipe(models: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("the cat sat on the mat\n" * 20_000)
    command = f"{sys.executable} -m ptblm score {models / 'word'} long.txt | head -n 2"
    result = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=plain_environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 141
    assert result.stderr == ""
    assert result.stdout.count("\n") == 2


def test_endless_text_is_scored_as_it_is_read(models: Path) -> None:
    score_command = f"{sys.executable} -m ptblm score {models / 'word'} --batch-size 512"
    command = f"yes 'the cat sat' | {score_command} | head -n 150001 | tail -n 1"
    output = subprocess.check_output(["bash", "-c", command], env=plain_environment(), text=True)
    assert output.startswith("37500\t4\t<eos>\t")


def test_error_in_the_middle_of_a_text(models: Path, text: Path) -> None:
    """The rows before the error are printed."""
    text.write_bytes(b"the cat\n" * 40_000 + b"the \xff dog\n")
    code, errors, output = ptblm("score", models / "word", text)
    assert code == 3
    assert "UTF-8" in errors
    assert len(rows(output)) > 10_000


def test_many_unknown_words_are_reported(models: Path, text: Path) -> None:
    text.write_text("The Cat Sat On The Mat\n" * 3)
    _, errors, _ = ptblm("score", models / "word", text)
    assert "86% of the words are not in the vocabulary" in errors
    assert "lower case" in errors
    assert "--tokenize ptb-lower" in errors
    text.write_text("the cat sat on the mat\n")
    assert ptblm("score", models / "word", text)[1] == ""


def test_marks_and_encodings_are_read_as_in_training(models: Path, text: Path) -> None:
    text.write_bytes("<s> the cat </s>\nthe caf\xe9 dog\n".encode("latin-1"))
    options = ["--set", "data.encoding=latin-1"]
    table = score(models / "word", text, *options)
    assert [row["token"] for row in table] == ["the", "cat", "<eos>", "the", "café", "dog", "<eos>"]


def test_header_names_checkpoint_mode_and_base(models: Path, text: Path) -> None:
    code, _, output = ptblm("score", models / "word", text, "--header", "--base", "10")
    comments = [line for line in output.split("\n") if line.startswith("#")]
    assert code == 0
    assert f"# checkpoint: {models / 'word' / 'checkpoints' / 'last.safetensors'}" in comments
    assert "# mode: sentence" in comments
    assert "# base: 10" in comments
    nats = surprisal(score(models / "word", text, "--base", "e"))
    np.testing.assert_allclose(surprisal(rows(output)), np.array(nats) / math.log(10), rtol=1e-8)


def test_kaldi_text(models: Path, text: Path) -> None:
    text.write_text("a-1 the cat\na-2\nb-1 the xyzzy dog\n")
    code, errors, output = ptblm("score", models / "word", text, "--format", "kaldi")
    assert code == 0, errors
    text.write_text("the cat\n\nthe xyzzy dog\n")
    expected = score(models / "word", text, "--base", "e")
    by_line = [[r["surprisal"] for r in expected if r["sentence_id"] == k] for k in "123"]
    lines = [line.split() for line in output.splitlines()]
    assert [line[0] for line in lines] == ["a-1", "a-2", "b-1"]
    for line, values in zip(lines, by_line, strict=True):
        assert line[1:] == [f"{float(value):.4f}" for value in values]


def test_states_predict_the_tokens(models: Path, text: Path) -> None:
    path = text.with_name("states.npz")
    table = score(models / "word", text, "--states", str(path), "--mode", "stream")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    assert set(arrays) == {
        "sentence_id",
        "token_id",
        *(f"layer{k}_{p}" for k in (0, 1) for p in "hc"),
    }
    assert arrays["sentence_id"].tolist() == [int(row["sentence_id"]) for row in table]
    assert arrays["token_id"].tolist() == [int(row["token_id"]) for row in table]
    assert np.isnan(arrays["layer0_h"][0]).all()
    weights = head_of(models / "word")
    logits = arrays["layer1_h"][1:] @ weights["head.weight"].T + weights["head.bias"]
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    ids = vocabulary_of(models / "word")
    targets = [ids.get(row["token"], ids["<unk>"]) for row in table[1:]]
    expected = -log_probs[np.arange(len(targets)), targets] / math.log(2)
    np.testing.assert_allclose(surprisal(table), expected, rtol=1e-4)


def head_of(run: Path) -> dict[str, np.ndarray]:
    from ptblm.checkpoint.format import load_checkpoint

    model = load_checkpoint(run / "checkpoints" / "last.safetensors").model
    return {name: model[name].numpy() for name in ("head.weight", "head.bias")}


def vocabulary_of(run: Path) -> dict[str, int]:
    from ptblm.checkpoint.format import load_checkpoint

    checkpoint = load_checkpoint(run / "checkpoints" / "last.safetensors")
    return checkpoint.parsed_vocabulary().ids


def test_states_file_is_kept_if_the_text_cannot_be_read(models: Path, text: Path) -> None:
    path = text.with_name("states.npz")
    path.write_bytes(b"old")
    text.write_bytes(b"the cat\n\xff\n")
    code, _, _ = ptblm("score", models / "word", text, "--states", path)
    assert code == 3
    assert path.read_bytes() == b"old"
    assert sorted(each.name for each in text.parent.iterdir()) == ["new.txt", "states.npz"]


@pytest.mark.parametrize("name", ["text", "checkpoint"])
def test_states_never_replace_an_input(models: Path, text: Path, name: str) -> None:
    path = text if name == "text" else models / "word" / "checkpoints" / "last.safetensors"
    content = path.read_bytes()
    code, errors, output = ptblm("score", models / "word", text, "--states", path)
    assert (code, output) == (2, "")
    assert "--states: cannot be written: the same command reads this file" in errors
    assert path.read_bytes() == content


def test_text_without_a_document_is_noted(models: Path, text: Path) -> None:
    text.write_text("!ARTICLE\n\n")
    code, errors, output = ptblm("score", models / "word", text, "--mode", "document")
    assert (code, output.count("\n")) == (0, 1)
    assert "the text contains only lines that divide documents" in errors


@pytest.mark.parametrize("options", [[], ["--mode", "stream"], ["--format", "sentences"]])
def test_scores_that_are_not_finite_are_an_error(
    models: Path, text: Path, options: list[str]
) -> None:
    checkpoint = load_checkpoint(last_checkpoint(models / "word"))
    checkpoint.model["head.weight"].zero_()
    checkpoint.model["head.bias"].fill_(-3e38)[0] = 3e38  # finite, but their difference is not
    path = text.with_name("overflow.safetensors")
    save_checkpoint(path, checkpoint)
    code, errors, output = ptblm("score", path, text, *options)
    assert (code, output) == (4, "")
    assert f"error: the weights give no finite scores\n  at: {path}" in errors


def test_certain_tokens_have_no_negative_zero(models: Path, text: Path) -> None:
    checkpoint = load_checkpoint(last_checkpoint(models / "word"))
    checkpoint.model["head.weight"].zero_()
    checkpoint.model["head.bias"].fill_(-200.0)[checkpoint.vocabulary["tokens"].index("the")] = 200
    path = text.with_name("certain.safetensors")
    save_checkpoint(path, checkpoint)
    text.write_text("the\n")
    row, _ = score(path, text, "--columns", "entropy", "--top", "1")
    assert [row[name] for name in ("surprisal", "entropy", "top1_surprisal")] == ["0", "0", "0"]


@pytest.mark.parametrize("name", ["srilm", "kenlm", "kaldi"])
def test_formats_that_need_all_probabilities(models: Path, text: Path, name: str) -> None:
    text.write_text("the cat\nthe dog\n")
    arguments = ["score", models / "word", text, "--format", name, "--mode"]
    code, errors, output = ptblm(*arguments, "stream")
    assert (code, output) == (2, "")
    assert "the first token of a stream has none" in errors
    for mode in ("sentence", "document"):
        code, _, output = ptblm(*arguments, mode)
        assert code == 0
        assert "nan" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--columns", "entopy"], "did you mean 'entropy'?"),
        (["--columns", "rank", "--format", "srilm"], "its columns are fixed"),
        (["--top", "2", "--format", "words"], "contains no predictions"),
        (["--header", "--format", "kenlm"], "cannot contain comments"),
        (["--by", "item"], "--by needs --table"),
        (["--table", "--mode", "stream"], "--mode cannot be combined with --table"),
        (["--states", "missing/states.npz"], "cannot be written"),
        (["--set", "model.hidden_size=3"], "can only change"),
    ],
)
def test_options_that_do_not_fit(
    models: Path, text: Path, options: list[str], message: str
) -> None:
    code, errors, output = ptblm("score", models / "word", text, *options)
    assert (code, output) == (2, "")
    assert message in errors


@pytest.mark.parametrize("option", [["--tokenize", "ptb"], ["--format", "srilm"]])
def test_options_for_words_only(models: Path, text: Path, option: list[str]) -> None:
    code, errors, _ = ptblm("score", models / "char", text, *option)
    assert code == 2
    assert "characters" in errors


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--guessn", "5"], "--top 5"),
        (["--words"], "--format words"),
        (["--colums", "rank"], "--columns rank"),
        (["--mode", "document", "--multisentence_test"], "--mode stream"),
        (["--charset", "latin-1"], "--set data.encoding=latin-1"),
    ],
)
def test_options_of_other_tools(models: Path, options: list[str], hint: str) -> None:
    code, errors, _ = ptblm("score", models / "word", *options)
    assert code == 2
    assert f"hint: pass {hint}" in errors


def test_keys_of_the_model_are_not_suggested(models: Path) -> None:
    _, errors, _ = ptblm("score", models / "word", "--nhid", "5")
    assert "--set model.hidden_size" not in errors


def test_missing_text(models: Path) -> None:
    code, errors, output = ptblm("score", models / "word", "missing.txt")
    assert (code, output) == (3, "")
    assert "missing.txt" in errors
