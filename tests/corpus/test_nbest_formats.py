"""Formats of n-best lists: what is read, what stays as it is, and messages for damaged lists."""

import gzip
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from ptblm.corpus.nbest import FORMATS
from ptblm.corpus.nbest.hypothesis import ReadOptions, Utterance
from ptblm.corpus.ngram_scores import next_scores, read_other_scores
from ptblm.corpus.references import read_references
from ptblm.corpus.unknown_words import read_unknown_words
from ptblm.errors import DataError
from tests.in_process import mutated

GOLDEN = Path(__file__).parents[1] / "golden" / "nbest"
LN_10 = math.log(10)

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file and returns its path."""

    def write_file(content: str) -> str:
        path = tmp_path / "list"
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
        return str(path)

    return write_file


def read(
    name: str, *paths: str | Path, size: int = 1, costs: Path | None = None
) -> list[Utterance]:
    options = ReadOptions(size, None if costs is None else str(costs))
    return list(FORMATS[name].read([str(path) for path in paths], options))


def rows(utterances: list[Utterance]) -> str:
    return "".join(
        f"{each.before}{each.score}{each.after}\n" for group in utterances for each in group
    )


@pytest.mark.parametrize(
    ("name", "files", "size"),
    [
        ("kaldi", ["kaldi.txt"], 1),
        ("srilm", ["srilm/call-01", "srilm/call-02"], 1),
        ("theanolm", ["theanolm.txt"], 1),
        ("nemo", ["nemo.tsv"], 3),
        ("jsonl", ["jsonl.jsonl"], 1),
    ],
)
def test_lists_keep_every_byte(name: str, files: list[str], size: int) -> None:
    paths = [GOLDEN / file for file in files]
    content = b"".join(path.read_bytes() for path in paths)
    assert rows(read(name, *paths, size=size)).encode() == content


def test_bytes_that_are_not_utf8_and_line_ends_are_kept(write: Write) -> None:
    content = "u-1 caf\udce9 the\r\nu-2\r\nv-1 \u200b x\r\n"
    utterances = read("kaldi", write(content))
    assert rows(utterances) == content
    assert [each.text for each in utterances[0]] == ["caf\udce9 the", ""]


def test_kaldi_lists_are_grouped_by_utterance() -> None:
    utterances = read("kaldi", GOLDEN / "kaldi.txt")
    assert [len(each) for each in utterances] == [10] * 100
    assert utterances[1][0].utterance == "spk1-talk001"
    assert [each.number for each in utterances[1]] == list(range(1, 11))
    assert utterances[7][4].text == ""
    assert utterances[7][4].length == 0


def test_costs_of_kaldi_are_negated_scores(tmp_path: Path, write: Write) -> None:
    path = write("u-1 the cat\nu-2 the\n")
    (tmp_path / "acwt").write_text("u-1 100.5 \nu-2 -3\n")
    (tmp_path / "lmwt.nolm").write_text("u-1 1.25\nu-2 1.5\n")
    ((first, second),) = read("kaldi", path, costs=tmp_path)
    assert (first.acoustic, first.graph, first.language) == (-100.5, -1.25, 0.0)
    (tmp_path / "lmwt.lmonly").write_text("u-1 20\nu-2 2e1\n")
    ((first, second),) = read("kaldi", path, costs=tmp_path)
    assert (second.acoustic, second.graph, second.language) == (3.0, -1.5, -20.0)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ("u-1 1\n", "has no cost of this hypothesis"),
        ("u-1 1\nu-3 1\n", "the cost of 'u-3', but the hypothesis at"),
        ("u-1 1\nu-2 x\n", "the cost 'x' is not a number"),
        ("u-1 1 2\nu-2 1\n", "expected the id of a hypothesis and its cost"),
        ("u-1 1\nu-2 1\nu-3 1\n", "more hypotheses than the list"),
    ],
)
def test_costs_of_other_hypotheses_are_an_error(
    tmp_path: Path, write: Write, costs: str, message: str
) -> None:
    path = write("u-1 the cat\nu-2 the\n")
    with pytest.raises(DataError, match="does not contain the file acwt"):
        read("kaldi", path, costs=tmp_path)
    (tmp_path / "acwt").write_text(costs)
    with pytest.raises(DataError, match=message):
        read("kaldi", path, costs=tmp_path)


def test_srilm_scores_are_read() -> None:
    first, second = read("srilm", GOLDEN / "srilm/call-01", GOLDEN / "srilm/call-02")
    assert first[0].utterance == "call-01"
    assert [each.acoustic for each in first] == [-1203.45, -1203.9, -1199.0, -1250.0]
    assert [each.language for each in first] == [-12.5, -11.75, -19.0, -3.0]
    assert [each.length for each in first] == [4, 3, 2, 0]
    assert [each.text.split() for each in first] == [
        ["the", "cat", "sat", "down"],
        ["the", "cat", "sat"],
        ["the", "dog"],
        [],
    ]
    assert second[0].text == "a café"


def test_suffixes_of_srilm_files_are_not_part_of_the_id(tmp_path: Path) -> None:
    for name in ("a.1.score.gz", "b.gz", "c.score", "d.txt"):
        opened = gzip.open if name.endswith(".gz") else open
        with opened(tmp_path / name, "wb") as file:
            file.write(b"-1 -2 1 the\n")
    utterances = read("srilm", *sorted(tmp_path.iterdir()))
    assert [group[0].utterance for group in utterances] == ["a.1", "b", "c", "d.txt"]


@pytest.mark.parametrize("names", [("a/u", "b/u"), ("u", "u.gz"), ("u.score", "u"), ("u v", "u-v")])
def test_srilm_files_of_one_utterance_are_rejected(names: tuple[str, str]) -> None:
    """Found before a file is read, so that nothing is written for the first one."""
    with pytest.raises(DataError, match=f"is that of {names[0]} too") as error:
        read("srilm", *names)
    assert error.value.where == names[1]


def test_espnet_directories_with_the_same_ids_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "1best_recog").mkdir()
    for name, row in {"text": "u a\n", "score": "u -1\n"}.items():
        (tmp_path / "1best_recog" / name).write_text(row)
    with pytest.raises(DataError, match="hypothesis 'u-1' occurs twice"):
        read("espnet", tmp_path, tmp_path)


def test_theanolm_rows_start_with_the_utterance() -> None:
    first, second = read("theanolm", GOLDEN / "theanolm.txt")
    assert [each.id for each in first] == ["call-01-1", "call-01-2"]
    assert [each.text.split() for each in second] == [["a", "dog"], []]
    assert second[1].acoustic == -801
    assert second[1].language == -6.5


def test_nemo_lists_are_divided_by_beam_size() -> None:
    first, second = read("nemo", GOLDEN / "nemo.tsv", size=3)
    assert [each.id for each in second] == ["2-1", "2-2", "2-3"]
    assert [each.acoustic for each in first] == [-3.25, -3.5, -9.125]
    assert [each.text for each in first] == ["the cat sat", "the cat", ""]
    assert [each.length for each in second] == [9, 6, 9]  # characters


def test_espnet_lists_are_read_from_their_directories() -> None:
    first, second = read("espnet", GOLDEN / "espnet")
    assert [each.text for each in first] == ["the cat sat", "the cat"]
    assert [each.acoustic for each in second] == [-1.0, -1.5, -2.25]
    assert second[0].score == "tensor(-1., device='cuda:0')"
    assert second[2].text == ""
    assert second[2].number == 3


def test_jsonl_objects_keep_other_names() -> None:
    first, second = read("jsonl", GOLDEN / "jsonl.jsonl")
    assert [(each.acoustic, each.language) for each in first] == [(-3.25, 0.0), (-3.5, -2.0)]
    assert second[0].acoustic == 0.0
    assert second[0].before.endswith('"nested": {"a": [1, 2]} ')
    assert second[0].after == "}"


@pytest.mark.parametrize(
    ("name", "content", "line", "message"),
    [
        ("kaldi", "u-1 a\nv-1 b\nu-2 c\n", 3, "utterance 'u' occurs again"),
        ("kaldi", "u-1 a\nthe cat sat\n", 2, "'the' is not the id of a hypothesis"),
        ("kaldi", "u- a\n", 1, "'u-' is not the id of a hypothesis"),
        ("kaldi", "call-01 -204.1 -9.8 1 a\n", 1, "'call-01' is not the id of a hypothesis"),
        ("srilm", "call-01 -204.1 -9.8 1 a\n", 1, "acoustic score 'call-01' is not a number"),
        ("kaldi", "u-1 a\nu-1 b\n", 2, "hypothesis 'u-1' occurs twice"),
        ("srilm", "NBestList1.0\n(-3) the\n", 1, "NBestList1.0"),
        ("srilm", "NBestList2.0\n(-3) the\n", 1, "NBestList2.0"),
        ("srilm", "-1 -2 1 a\n-1 x 1 a\n", 2, "language model score 'x' is not a number"),
        ("srilm", "nan -2 1 a\n", 1, "acoustic score 'nan' is not a number"),
        ("srilm", "-1 1_0 1 a\n", 1, "'1_0' is not a number"),
        ("srilm", "-1 -2 a b\n", 1, "number of words 'a'"),
        ("srilm", "-1 -2\n", 1, "fewer than three fields"),
        ("srilm", "", None, "the n-best list is empty"),
        ("theanolm", "u -1 -2 1 a\nu -1\n", 2, "fewer than three fields"),
        ("theanolm", "u -1 -2 1 a\nv -1 -2 1 a\nu -1 -2 1 a\n", 3, "occurs again"),
        ("theanolm", "u\n", 1, "only one field"),
        ("nemo", "a\t-1\nb\t-2\nc\t-3\n", 3, "3 rows, which is not a multiple of the beam size 2"),
        ("nemo", "a\t-1\nb -2\n", 2, "no tab"),
        ("nemo", "a\tinf\n", 1, "'inf' is not a number"),
        ("jsonl", "{}\n", 1, "no string 'utterance'"),
        ("jsonl", "[]\n", 1, "not a JSON object"),
        ("jsonl", '{"utterance": "u", "text": "a", "score": "x"}\n', 1, "'score' is not a number"),
        ("jsonl", '{"utterance": "u", "text": "a", "score": NaN}\n', 1, "is not a number"),
        ("jsonl", '{"utterance": "u", "text": "a", "total": 1}\n', 1, "already contains 'total'"),
        ("jsonl", '{"utterance": "u v", "text": "a"}\n', 1, "contains a space"),
        ("jsonl", '{"utterance": "u", "text": "\\ud800"}\n', 1, "surrogate"),
        ("jsonl", '{"utterance": "u", "text": "a\\nb"}\n', 1, "newline"),
    ],
)
def test_damaged_rows_are_located(
    write: Write, name: str, content: str, line: int | None, message: str
) -> None:
    path = write(content)
    with pytest.raises(DataError) as error:
        read(name, path, size=2)
    assert message in error.value.what
    assert error.value.where == (path if line is None else f"{path}:{line}")


def test_espnet_files_that_disagree_are_an_error(tmp_path: Path) -> None:
    def write_files(number: int, **contents: str) -> None:
        directory = tmp_path / f"{number}best_recog"
        directory.mkdir(exist_ok=True)
        for name, content in contents.items():
            (directory / name).write_text(content)

    def message() -> str:
        with pytest.raises(DataError) as error:
            read("espnet", tmp_path)
        return str(error.value)

    assert "does not contain 1best_recog" in message()
    write_files(1, text="u a\nv b\n", score="u -1\nw -2\n")
    assert "about utterance 'w'" in message()
    assert "score:2" in message()
    write_files(1, score="u -1\n")
    assert "score has no row for utterance 'v'" in message()
    write_files(1, score="u -1\nv -2\n", token="u a\n")
    assert "token has no row for utterance 'v'" in message()
    write_files(1, token="u a\nv b\n")
    write_files(2, text="x a\n", score="x -1\n")
    assert "utterance 'x' is not in 1best_recog" in message()
    write_files(2, text="v a\n", score="v tensor(x)\n")
    assert "the score 'x' is not a number" in message()
    write_files(2, score="v -3\n")
    assert [len(each) for each in read("espnet", tmp_path)] == [1, 2]
    write_files(4, text="u a\n", score="u -1\n")
    assert "without a gap" in message()


def test_rows_have_a_maximum_length(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptblm.corpus.nbest.rows._MAX_ROW", 1000)
    with pytest.raises(DataError, match="longer than 1,000 bytes"):
        read("kaldi", write("u-1 a\nu-2 " + "a" * 10**6))


def test_byte_order_mark_is_not_part_of_an_id(write: Write) -> None:
    ((hypothesis,),) = read("kaldi", write("\ufeffu-1 a"))
    assert hypothesis.utterance == "u"


def test_kenlm_scores_are_read() -> None:
    sentences = list(read_other_scores(str(GOLDEN / "kenlm.scores")))
    lines = (GOLDEN / "kenlm.txt").read_text().splitlines()
    assert [each.words for each in sentences] == [line.split() for line in lines]
    np.testing.assert_allclose(-sentences[2].nll / LN_10, [-1.2208, -1.0757, -0.9788], rtol=1e-12)
    assert sentences[3].nll[0] == pytest.approx(1.601 * LN_10)


def test_kenlm_words_without_sentence_totals_are_read(write: Write) -> None:
    """`query -v word -v summary` prints no newline between sentences."""
    items = "the=3 1 -1\t</s>=2 1 -2\t</s>=2 1 -3\tPerplexity including OOVs:\t10\nTokens:\t3\n"
    sentences = list(read_other_scores(write(items)))
    assert [each.words for each in sentences] == [["the"], []]


def test_srilm_word_scores_are_read() -> None:
    first, second = read_other_scores(str(GOLDEN / "srilm.ppl"))
    assert first.words == ["the", "cat", "sat"]
    np.testing.assert_allclose(-first.nll / LN_10, [-0.2218, -0.3979, -0.4437, -0.2553])
    assert second.words == ["the", "<unk>", "ran"]
    assert second.nll[1] == math.inf
    assert next_scores(iter([second]), ["the", "zither", "ran"], "list:1") is second


def test_scores_of_other_sentences_are_an_error(write: Write) -> None:
    def others() -> str:
        return str(GOLDEN / "kenlm.scores")

    with pytest.raises(DataError, match="are those of 'sat'"):
        next_scores(read_other_scores(others()), ["the", "cat", "ran"], "list:1")
    with pytest.raises(DataError, match="'the cat sat'"):
        next_scores(read_other_scores(others()), ["the", "cat"], "list:1")
    with pytest.raises(DataError, match="no scores for this sentence"):
        next_scores(iter([]), ["the"], "list:1")
    with pytest.raises(DataError, match="does not end with </s>"):
        list(read_other_scores(write("\tp( the | <s> ) \t= [1gram] 0.1 [ -1 ]\n")))
    for damaged in ("p( the | <s> ) \t= 0.1", "p( the | <s> ) 0.1 [ -1 ]", "p( the [ -1 ]", "p( "):
        with pytest.raises(DataError, match="form of `ngram"):
            list(read_other_scores(write(f"\t{damaged}\n")))


def test_references_are_read_in_three_formats(write: Write) -> None:
    expected = {"u1": ["the", "cat"], "u2": []}
    assert read_references(write("u1 the cat\nu2\n"), ["u1", "u2"]) == expected
    assert read_references(write("the cat (u1)\n(u2)\n"), ["u1", "u2"]) == expected
    named = '{"utterance": "u1", "text": "the cat"}\n{"utterance": "u2", "text": ""}\n'
    assert read_references(write(named), ["u1", "u2"]) == expected
    manifest = '{"text": "the cat", "duration": 1.5}\n{"text": ""}\n'
    assert list(read_references(write(manifest), ["1", "2"]).values()) == [["the", "cat"], []]
    laughing = read_references(write("u1 the cat (laughter)\n"), ["u1"])
    assert laughing == {"u1": ["the", "cat", "(laughter)"]}


def test_missing_and_repeated_references_are_errors(write: Write) -> None:
    with pytest.raises(DataError, match="no reference for 1 of 2 utterances, the first is 'u2'"):
        read_references(write("u1 a\n"), ["u1", "u2"])
    with pytest.raises(DataError, match="'u1' occurs twice"):
        read_references(write("u1 a\nu1 b\n"), ["u1"])


def test_probabilities_of_unknown_words_are_checked(write: Write) -> None:
    table = read_unknown_words(write("zither 0.25\n\nalpaca 1e-3\n"))
    assert table == pytest.approx({"zither": math.log(0.25), "alpaca": math.log(0.001)})
    for content in ("zither\n", "zither x\n", "zither 0\n", "zither 2\n", "zither 0.5 1\n"):
        with pytest.raises(DataError, match="a word and its probability"):
            read_unknown_words(write(content))


def start_of(path: str) -> bytes:
    return b"".join((GOLDEN / path).read_bytes().splitlines(keepends=True)[:12])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("kaldi", "kaldi.txt"),
        ("srilm", "srilm/call-01"),
        ("theanolm", "theanolm.txt"),
        ("nemo", "nemo.tsv"),
        ("jsonl", "jsonl.jsonl"),
        ("espnet", "espnet/1best_recog/score"),
        ("mixture", "kenlm.scores"),
        ("mixture", "srilm.ppl"),
    ],
)
def test_damaged_files_are_read_or_rejected(
    name: str, file: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is read from a damaged list is written back unchanged."""
    directory = tmp_path_factory.mktemp("damaged")
    shutil.copytree(GOLDEN / "espnet", directory / "espnet")
    path = directory / (file if name == "espnet" else "list")

    @given(mutated(start_of(file)))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            if name == "mixture":
                for each in read_other_scores(str(path)):
                    assert len(each.nll) == len(each.words) + 1
                return
            utterances = read(name, directory / "espnet" if name == "espnet" else path, size=3)
        except DataError:
            return
        if name != "espnet" and not content.startswith(b"\xef\xbb\xbf"):
            lines = [line for line in content.split(b"\n") if name == "nemo" or line.strip()]
            found = rows(utterances).encode("utf-8", "surrogateescape").split(b"\n")
            assert [line for line in found if line] == [line for line in lines if line]

    check()
