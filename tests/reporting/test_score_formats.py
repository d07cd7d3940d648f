"""The output formats of `ptblm score`, against values computed by hand from the probabilities."""

import csv
import io
import json
import math
from pathlib import Path
from typing import get_args

import pytest

from ptblm.cli import score as command
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.reporting.score_formats import FORMATS
from ptblm.reporting.score_formats.cells import cell
from ptblm.reporting.score_formats.columns import COLUMNS, Request
from tests.reporting.scored import scored, word_tokenizer

ALL = COLUMNS[1:]
LINES = [
    scored(1, "the cat", [0.25, 0.5, 0.125], [3.0, 2.5, 2.75]),
    scored(2, "", [0.5], [3.0]),
    scored(3, "xyzzy the", [0.0625, 0.5, 0.25], [3.0, 1.0, 2.0]),
]


def output(name: str, lines: list[ScoredLine] = LINES, **options: object) -> list[str]:
    form = FORMATS[name]
    request = Request(**{"tokenizer": word_tokenizer(), "base": form.base, **options})  # type: ignore[arg-type]
    return [row for block in form.write(lines, request) for row in block]


def cells(rows: list[str]) -> list[list[str]]:
    """Parses tab-separated values as pandas and R do."""
    return list(csv.reader(io.StringIO("\n".join(rows)), delimiter="\t"))


def characters() -> Tokenizer:
    tokens = ["<eos>", "<unk>", *"abc "]
    return make_tokenizer("char", Vocabulary(tokens, [4, 0, 8, 4, 2, 16]))


def test_token_table() -> None:
    header, *rows = cells(output("tsv", columns=ALL))
    assert header == ["sentence_id", "token_id", "token", *COLUMNS]
    assert rows == [
        ["1", "1", "the", "2", "3", "0", "1", "0", "3", "3"],
        ["1", "2", "cat", "1", "2.5", "0.5", "2", "0", "2", "3"],
        ["1", "3", "<eos>", "3", "2.75", "0", "3", "0", "4", "NA"],
        ["2", "1", "<eos>", "1", "3", "0", "1", "0", "4", "NA"],
        ["3", "1", "xyzzy", "4", "3", "0", "1", "1", "NA", "5"],
        ["3", "2", "the", "1", "1", "2", "2", "0", "3", "3"],
        ["3", "3", "<eos>", "2", "2", "0", "3", "0", "4", "NA"],
    ]


def test_columns_are_in_the_order_of_the_user() -> None:
    header, first, *_ = cells(output("tsv", columns=("length", "rank"), top=2))
    assert header[3:] == [
        "surprisal",
        "length",
        "rank",
        "top1",
        "top1_surprisal",
        "top2",
        "top2_surprisal",
    ]
    assert first[3:] == ["2", "3", "1", "the", "1", "<eos>", "2"]


@pytest.mark.parametrize("name", ["tsv", "words"])
def test_long_lines_are_written_in_parts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = output(name, columns=ALL)
    monkeypatch.setattr("ptblm.reporting.score_formats.tables._ROWS", 2)
    assert output(name, columns=ALL) == expected


@pytest.mark.parametrize(("base", "expected"), [(2, "2"), (10, "0.6020599913"), (4, "1")])
def test_base_of_the_logarithms(base: float, expected: str) -> None:
    assert cells(output("tsv", base=float(base)))[1][3] == expected


def test_entropy_reduction_continues_in_the_next_line_of_a_document() -> None:
    last = scored(5, "the", [0.5, 0.5], [1.0, 0.25])
    rows = cells(output("tsv", [*LINES, last], columns=("entropy_reduction",), carried=True))
    reductions = [row[4] for row in rows[1:]]
    # Line 5 starts a document, because line 4 divides documents.
    assert reductions == ["0", "0.5", "0", "0", "0", "2", "0", "0", "0.75"]


def test_token_without_context_has_no_values() -> None:
    lines = [scored(1, "the cat", [math.nan, 0.5, 0.5], [math.nan, 2.0, 1.0])]
    columns = ("entropy", "entropy_reduction", "rank", "unknown")
    rows = cells(output("tsv", lines, columns=columns, top=0, carried=True))
    assert rows[1][3:] == ["NA", "NA", "NA", "NA", "0"]
    assert rows[2][3:] == ["1", "2", "0", "2", "0"]
    sentence = cells(output("sentences", lines, columns=("rank",)))[1]
    assert sentence[:4] == ["1", "2", "2", "2"]


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("the", "the"),
        ('"', '""""'),
        ('5"', '"5"""'),
        ("'", "'"),
        ("#1", '"#1"'),
        ("NA", "\\x4eA"),
        ("null", "\\x6eull"),
        ("\t", "\\t"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\u202e", "\\u202e"),
        ("é", "é"),
    ],
)
def test_tokens_in_cells(token: str, expected: str) -> None:
    assert cell(token) == expected
    (read,) = csv.reader([f"1\t{expected}\t2"], delimiter="\t")
    decoded = read[1].encode("latin-1", "backslashreplace").decode("unicode_escape")
    assert (read[0], decoded, read[2]) == ("1", token, "2")


def test_words_that_readers_take_for_missing_values_are_escaped() -> None:
    missing = [
        "NA",
        "N/A",
        "n/a",
        "nan",
        "NaN",
        "-nan",
        "-NaN",
        "null",
        "NULL",
        "None",
        "<NA>",
        "#N/A",
        "#NA",
        "1.#IND",
        "-1.#QNAN",
    ]
    (read,) = csv.reader(["\t".join(map(cell, missing))], delimiter="\t")
    assert not set(read) & set(missing)


def test_words_of_characters_contain_the_following_space() -> None:
    probabilities = [0.5, 0.25, 0.5, 0.5, 0.5, 0.125, 0.5, 0.5]
    entropy = [3.0, 1.0, 2.0, 1.5, 1.0, 0.5, 2.0, 4.0]
    line = scored(1, " ab  cb", probabilities, entropy, characters())
    columns = ("entropy", "entropy_reduction", "rank", "unknown", "frequency", "length")
    options = {"tokenizer": characters(), "columns": columns}
    _, first, second = cells(output("words", [line], **options))
    assert first == ["1", "1", "ab", "6", "3", "3", "5", "0", "2", "2"]
    assert second == ["1", "2", "cb", "5", "0.5", "0.5", "8", "0", "1", "2"]


def test_words_sum_the_tokens_of_blank_lines() -> None:
    lines = [
        scored(1, "", [0.5], tokenizer=characters()),
        scored(2, "  ", [0.5, 0.5, 0.25], tokenizer=characters()),
    ]
    rows = cells(output("words", lines, tokenizer=characters(), columns=("length",)))
    assert rows[1:] == [["1", "1", "<eos>", "1", "NA"], ["2", "1", "<eos>", "4", "NA"]]


def test_sentence_table() -> None:
    header, first, second, third = cells(output("sentences", columns=("rank",)))
    assert header == (
        [
            "sentence_id",
            "tokens",
            "words",
            "surprisal",
            "mean",
            "perplexity",
            "unknown",
            "max_rank",
            "bits_per_byte",
            "perplexity_per_word",
        ]
    )
    # "the cat\n" has 8 bytes, and two words with a line end.
    assert first == ["1", "3", "2", "6", "2", "4", "0", "3", "0.75", "4"]
    assert second == ["2", "1", "0", "1", "1", "2", "0", "1", "1", "2"]
    assert third[:4] == ["3", "3", "2", "7"]
    assert float(third[5]) == pytest.approx(2 ** (7 / 3))
    assert third[6] == "1"


def test_json_lines() -> None:
    first, second, third = map(json.loads, output("jsonl", columns=ALL, top=2))
    assert first["tokens"] == ["the", "cat", "<eos>"]
    assert first["surprisal"] == pytest.approx([2, 1, 3])
    assert first["length"] == [3, 3, None]
    assert first["top"][0] == [["the", pytest.approx(1)], ["<eos>", pytest.approx(2)]]
    assert (second["sentence_id"], second["tokens"]) == (2, ["<eos>"])
    assert third["unknown"] == [1, 0, 0]
    assert third["frequency"] == [None, 3, 4]


def test_bytes_that_are_not_ascii_are_escaped() -> None:
    tokenizer = make_tokenizer("byte")
    line = scored(1, "é\udcff", [0.5] * 4, tokenizer=tokenizer)
    assert [row[2] for row in cells(output("tsv", [line], tokenizer=tokenizer))[1:]] == [
        "\\xc3",
        "\\xa9",
        "\\xff",
        "\\n",
    ]
    assert json.loads(output("jsonl", [line], tokenizer=tokenizer)[0])["tokens"][0] == "\\xc3"


@pytest.mark.parametrize("name", ["neural-complexity", "lm-zoo", "srilm", "kenlm"])
def test_formats_of_other_tools(name: str, golden: Path) -> None:
    fixed = FORMATS[name].fixed
    expected = (golden / "scores" / f"{name}.txt").read_text(encoding="utf-8")
    assert "\n".join(output(name, columns=fixed, text="new.txt")) + "\n" == expected


def test_guesses_of_neural_complexity() -> None:
    columns = FORMATS["neural-complexity"].fixed
    header, first, *_ = output("neural-complexity", columns=columns, top=2)
    assert header.split()[7:] == ["guess0", "gsurp0", "guess1", "gsurp1"]
    assert first == "the 0 0 3 2 3 0 the 1.000 <eos> 2.000"


def test_kaldi_scores_do_not_contain_the_utterance_id(golden: Path) -> None:
    tokenizer = word_tokenizer()
    lines = []
    for number, text in enumerate(["utt-1 the cat", "utt-2"], start=1):
        line = scored(number, text.partition(" ")[2], [0.25, 0.5, 0.125][-1 - 2 * (number == 1) :])
        object.__setattr__(line.line, "text", text)
        lines.append(line)
    expected = (golden / "scores" / "kaldi.txt").read_text(encoding="utf-8")
    assert "\n".join(output("kaldi", lines, tokenizer=tokenizer)) + "\n" == expected


def test_kaldi_line_without_id_is_an_error() -> None:
    with pytest.raises(DataError, match="without an utterance id") as error:
        output("kaldi", [scored(7, "", [0.5])], text="hyp.txt")
    assert error.value.where == "hyp.txt:7"


def test_srilm_log_probabilities_are_where_its_scripts_expect_them() -> None:
    """`compute-best-mix` reads the tenth field of the lines that start with `p(`."""
    fields = [line.split() for line in output("srilm")]
    log_probs = [float(words[9]) for words in fields if words and words[0] == "p("]
    assert log_probs == pytest.approx(
        [math.log10(p) for p in [0.25, 0.5, 0.125, 0.0625, 0.5, 0.25]]
    )


def test_impossible_words_are_not_in_the_perplexity_of_srilm() -> None:
    rows = output("srilm", [scored(1, "the cat", [0.25, 0.0, 0.25])])
    assert "[ -inf ]" in rows[2]
    assert rows[5] == "1 zeroprobs, logprob= -1.20412 ppl= 4 ppl1= 16"


@pytest.mark.parametrize("name", FORMATS)
def test_text_without_lines_gives_a_valid_file(name: str) -> None:
    rows = output(name, [], columns=FORMATS[name].fixed)
    assert len(rows) == {"jsonl": 0, "kaldi": 0, "kenlm": 4}.get(name, 1)


def test_command_line_offers_all_formats() -> None:
    annotation = command.score.__annotations__["format_name"]
    literal = get_args(get_args(annotation)[0])[0]
    assert set(get_args(literal)) == set(FORMATS)
