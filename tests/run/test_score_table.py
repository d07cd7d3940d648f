"""`ptblm score --table`: the rows of a word table with their scores."""

import csv
import io
import math
import re
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

# Two items whose rows alternate.
ROWS = [
    ("1", "the", "a"),
    ("2", "the", "b"),
    ("1", "cat", "c"),
    ("2", "dog", "d"),
    ("1", "sat", ""),
]
TABLE = "item\tword\tnote\n" + "".join("\t".join(row) + "\n" for row in ROWS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "words.tsv"


def score(checkpoint: Path, path: Path, *options: str) -> str:
    code, errors, output = ptblm("score", checkpoint, path, "--table", *options)
    assert code == 0, errors
    return output


def rows(output: str, separator: str = "\t") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(output), delimiter=separator, strict=True))


def of_text(checkpoint: Path, text: str, directory: Path, *options: str) -> list[dict[str, str]]:
    """The scores of the words of a line, by `--format words`."""
    (directory / "line.txt").write_text(text, encoding="utf-8")
    arguments = ["score", checkpoint, directory / "line.txt", "--format", "words", *options]
    code, errors, output = ptblm(*arguments)
    assert code == 0, errors
    return rows(output)


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
def test_each_group_is_a_text(models: Path, path: Path, tokenizer: str) -> None:
    path.write_text(TABLE)
    columns = ["entropy", "entropy_reduction", "rank", "unknown", "frequency", "length"]
    options = ["--columns", ",".join(columns)]
    output = score(models / tokenizer, path, "--by", "item", *options)
    assert [line.rsplit("\t", 7)[0] for line in output.splitlines()] == TABLE.splitlines()
    found = rows(output)
    for item, text in (("1", "the cat sat"), ("2", "the dog")):
        expected = of_text(models / tokenizer, text, path.parent, *options)
        of_item = [row for row in found if row["item"] == item]
        for row, word in zip(of_item, expected, strict=False):
            assert row["word"] == word["word"]
            for name in ("surprisal", *columns):
                assert float(row[name]) == pytest.approx(float(word[name]), rel=1e-5, abs=1e-6)


def test_table_without_groups_is_one_text(models: Path, path: Path) -> None:
    path.write_text(TABLE)
    found = rows(score(models / "word", path))
    expected = of_text(models / "word", "the the cat dog sat", path.parent)
    for row, word in zip(found, expected, strict=False):
        assert float(row["surprisal"]) == pytest.approx(float(word["surprisal"]), rel=1e-5)


def test_values_of_the_words_before(models: Path, path: Path) -> None:
    path.write_text(TABLE)
    output = score(models / "word", path, "--by", "item", "--previous", "2", "--columns", "length")
    header = output.splitlines()[0].split("\t")
    assert header[3:5] == ["surprisal", "length"]
    assert header[5:] == [
        "surprisal_previous1",
        "length_previous1",
        "surprisal_previous2",
        "length_previous2",
    ]
    found = rows(output)
    first, second, third = (row for row in found if row["item"] == "1")
    assert first["surprisal_previous1"] == second["surprisal_previous2"] == "NA"
    assert second["surprisal_previous1"] == first["surprisal"]
    assert third["surprisal_previous1"] == second["surprisal"]
    assert third["surprisal_previous2"] == first["surprisal"]


def test_punctuation_is_part_of_the_word(models: Path, path: Path) -> None:
    pytest.importorskip("nltk")
    path.write_text("word\nThe\ndog\nran.\n")
    (*_, whole) = rows(score(models / "word", path))
    assert whole["surprisal"]
    *_, divided = rows(
        score(models / "word", path, "--tokenize", "ptb-lower", "--columns", "unknown,length")
    )
    line = of_text(models / "word", "the dog ran .", path.parent)
    expected = float(line[2]["surprisal"]) + float(line[3]["surprisal"])
    assert float(divided["surprisal"]) == pytest.approx(expected, rel=1e-6)
    assert (divided["unknown"], divided["length"]) == ("0", "4")


@pytest.mark.parametrize(
    ("content", "separator"),
    [
        ('item,word,note\n1,"the","a, ""b"""\n1,cat,"two\nlines"\n2,"""dog",\n', ","),
        ('"item"\t"word"\n"1"\t"the"\n"1"\t"""cat"\n', "\t"),
        ('word\titem\n"the\t1\ncat"\t1\n"dog"\t1\n', "\t"),
        ("word\titem\nthe\t1\ncat\t1", "\t"),
        ("word\titem\r\nthe\t1\r\ncat\t\r\n", "\t"),
        ("word,\u00e9\u200b\nthe,\u202e\u00a0\ncat,\x1b[2J\n", ","),
    ],
)
def test_other_columns_are_unchanged(
    models: Path, path: Path, content: str, separator: str
) -> None:
    path.write_text(content, encoding="utf-8", newline="")
    output = score(models / "word", path)
    appended = rf"{separator}(surprisal|\d+\.\d+)(?=\r?\n)"
    assert len(re.findall(appended, output)) > 2
    output = re.sub(appended, "", output)
    assert output.removesuffix("\n") == content.removesuffix("\n")


def test_quoted_cells_are_words(models: Path, path: Path) -> None:
    path.write_text('word,item\n"the",1\n"""dog""",1\n')
    first, second = rows(score(models / "word", path, "--columns", "length,unknown"), ",")
    assert (first["length"], first["unknown"]) == ("3", "0")
    assert (second["length"], second["unknown"]) == ("5", "1")


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        ("word\titem\nthe\t1\n\t1\n", 3, "the word is empty"),
        ("word\titem\nthe\t1\nthe cat\t1\n", 3, "'the cat' is more than one word"),
        ("word\titem\nthe\t1\ncat\n", 3, "the row has 1 column, and the header has 2"),
        ("word,item\nthe,1\n\ncat,1\n", 3, "the row has 1 column, and the header has 2"),
        ('word,item\n"a\nb",1\nthe,1,1\n', 2, "more than one word"),
        ('word,item\nthe,1\n"cat,1\ndog,1\n', 3, "cannot be divided into columns"),
        ("word\nthe\n\xff\n", 3, "not utf-8"),
    ],
)
def test_row_that_cannot_be_aligned_is_named(
    models: Path, path: Path, content: str, line: int, message: str
) -> None:
    path.write_text(content, encoding="latin-1")
    code, errors, output = ptblm("score", models / "word", path, "--table")
    assert (code, output) == (3, "")
    assert message in errors
    assert f"{path}:{line}\n" in errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--word", "Word"], "--word Word: the table has no column 'Word'"),
        (["--by", "story"], "its columns are item, word, note"),
        (["--columns", "length", "--word", "note"], "column 'note': the word is empty"),
    ],
)
def test_missing_columns(models: Path, path: Path, options: list[str], message: str) -> None:
    path.write_text(TABLE)
    code, errors, _ = ptblm("score", models / "word", path, "--table", *options)
    assert code in (2, 3)
    assert message in errors


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_row_of_an_unknown_word_is_named(models: Path, path: Path, tokenizer: str) -> None:
    checkpoint = load_checkpoint(last_checkpoint(models / tokenizer))
    tokens = checkpoint.vocabulary["tokens"]
    tokens[tokens.index("<unk>")] = "!"  # so that the vocabulary is closed
    closed = path.with_name("closed.safetensors")
    save_checkpoint(closed, checkpoint)
    path.write_text("word\titem\nthe\t1\nthe\t2\ncat\t1\n~\t2\n")
    code, errors, output = ptblm("score", closed, path, "--table", "--by", "item")
    assert (code, output) == (3, "")
    assert f"'~' is not in the vocabulary, which does not contain <unk>\n  at: {path}:5" in errors


def test_columns_of_the_table_are_not_repeated(models: Path, path: Path) -> None:
    path.write_text("word\tsurprisal\nthe\t1\n")
    code, errors, _ = ptblm("score", models / "word", path, "--table")
    assert code == 2
    assert "already has a column 'surprisal'" in errors


def test_table_with_a_header_only(models: Path, path: Path) -> None:
    path.write_text("word\titem\n")
    assert score(models / "word", path, "--by", "item") == "word\titem\tsurprisal\n"


@pytest.mark.parametrize("content", ["", "\n", "\nthe\n"])
def test_table_without_a_header(models: Path, path: Path, content: str) -> None:
    path.write_text(content)
    code, errors, output = ptblm("score", models / "word", path, "--table")
    assert (code, output) == (3, "")
    assert f"the table has no header\n  at: {path}:1" in errors


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_byte_order_is_recognized_without_a_mark(models: Path, path: Path, encoding: str) -> None:
    path.write_text(TABLE)
    expected = score(models / "word", path)
    path.write_bytes(TABLE.encode(encoding))
    assert score(models / "word", path, "--set", "data.encoding=utf-16") == expected


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-mark"])
def test_byte_order_mark_names_the_encoding(models: Path, path: Path, encoding: str) -> None:
    path.write_text(TABLE)
    expected = score(models / "word", path)
    is_big = encoding == "utf-16-be-mark"
    path.write_bytes(f"\ufeff{TABLE}".encode("utf-16-be") if is_big else TABLE.encode(encoding))
    assert score(models / "word", path) == expected


def test_semicolons_separate_columns(models: Path, path: Path) -> None:
    path.write_text('word;note\nthe;1,5\n"dog";2\n')
    found = rows(score(models / "word", path, "--columns", "length"), ";")
    assert [(row["word"], row["note"], row["length"]) for row in found] == [
        ("the", "1,5", "3"),
        ("dog", "2", "3"),
    ]


def test_encoding_of_a_table(models: Path, path: Path) -> None:
    path.write_bytes("word\tnote\ncat\tcaf\xe9\n".encode("latin-1"))
    (row,) = rows(score(models / "word", path, "--set", "data.encoding=latin-1", "--base", "e"))
    assert row["note"] == "café"
    (in_bits,) = rows(score(models / "word", path, "--set", "data.encoding=latin-1"))
    assert float(row["surprisal"]) == pytest.approx(float(in_bits["surprisal"]) * math.log(2))
