"""Files of minimal pairs: their formats, which are recognized by content, and their errors."""

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptblm.errors import DataError, UsageError
from ptblm.evaluation.minimal_pairs.agreement import AgreementText
from ptblm.evaluation.minimal_pairs.pair import Continuation, Pair
from ptblm.evaluation.minimal_pairs.reading import read_minimal_pairs
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite
from ptblm.evaluation.minimal_pairs.table import Columns
from tests.evaluation.pairs_files import (
    AGREEMENT,
    NONCE_GOLD,
    ONE_PREFIX,
    SUITE,
    TABLE,
    TWO_PREFIXES,
    json_lines,
    write,
    write_agreement,
)
from tests.in_process import mutated


def pairs_of(path: Path, columns: Columns | None = None) -> list[Pair]:
    material = read_minimal_pairs(path, columns)
    assert isinstance(material, list)
    return material


def agreement_of(path: Path) -> AgreementText:
    material = read_minimal_pairs(path)
    assert isinstance(material, AgreementText)
    return material


def suite_of(directory: Path, **changes: Any) -> Suite:
    material = read_minimal_pairs(write(directory, "suite", json.dumps({**SUITE, **changes})))
    assert isinstance(material, Suite)
    return material


def test_blimp_has_paradigms_groups_and_prefixes(tmp_path: Path) -> None:
    text = json_lines(ONE_PREFIX, TWO_PREFIXES)
    first, second = pairs_of(write(tmp_path, "any.name", text))
    assert (first.paradigm, first.good, first.bad) == (
        "simple_agreement",
        "the cat sleeps near a dog",
        "the cat sleep near a dog",
    )
    assert first.groups == {"field": "morphology", "phenomenon": "agreement"}
    assert first.prefixes == (Continuation("the cat", "sleeps"), Continuation("the cat", "sleep"))
    assert second.prefixes == (Continuation("a cat", "near"), Continuation("a cats", "near"))
    assert second.groups == {"field": "syntax_semantics"}
    assert str(second.place).endswith("any.name:2")


def test_babylm_has_the_name_of_the_file_as_paradigm(tmp_path: Path) -> None:
    text = json_lines({"sentence_good": "a cat", "sentence_bad": "a cats"}) + "\n"
    (pair,) = pairs_of(write(tmp_path, "turn_taking.jsonl", text))
    assert (pair.paradigm, pair.groups, pair.prefixes) == ("turn_taking", {}, None)


def test_table_of_marvin_and_linzen_is_grouped_by_construction(tmp_path: Path) -> None:
    pairs = pairs_of(write(tmp_path, "table.jsonl", TABLE))
    assert [pair.paradigm for pair in pairs] == ["simple", "simple", "across"]
    assert pairs[1].good == "the cats sleep"
    assert pairs[1].bad == "the cats sleeps"


def test_tsv_has_no_quotes(tmp_path: Path) -> None:
    text = 'good\tbad\n"a cat" sleeps\t"a cat sleep\n'
    (pair,) = pairs_of(write(tmp_path, "quotes.tsv", text))
    assert (pair.good, pair.bad, pair.paradigm) == ('"a cat" sleeps', '"a cat sleep', "quotes")


def test_csv_is_quoted_and_columns_can_be_chosen(tmp_path: Path) -> None:
    text = 'id,kind,worse,better\n1,x--1,"a, cats","a, ""cat"""\n2,y,b,c\n'
    path = write(tmp_path, "pairs.csv", text)
    columns = Columns(good="better", bad="worse", paradigm="kind")
    first, second = pairs_of(path, columns)
    assert (first.good, first.bad, first.paradigm) == ('a, "cat"', "a, cats", "x")
    assert second.paradigm == "y"


def test_agreement_of_linzen_counts_attractors(tmp_path: Path) -> None:
    text = agreement_of(write_agreement(tmp_path))
    first, second = text.lines
    assert (first.before, first.rest) == ("the cat", "sleeps near the dogs")
    assert (second.right, second.wrong) == ("sleep", "sleeps")
    assert second.pair.bad == "the dogs near a cat sleeps"
    assert second.pair.groups == {"attractors": "1"}
    assert second.pair.paradigm == "agreement"


def test_agreement_of_gulordava_divides_original_and_nonce(tmp_path: Path) -> None:
    write_agreement(tmp_path, gold=NONCE_GOLD)
    first, second = agreement_of(tmp_path / "agreement.eval").lines
    assert (first.pair.paradigm, second.pair.paradigm) == (
        "agreement, original",
        "agreement, nonce",
    )
    assert (first.right, first.wrong) == ("sleeps", "sleep")
    assert first.pair.groups == {"construction": "N!V"}


def test_suite_has_formulas_and_regions(tmp_path: Path) -> None:
    suite = suite_of(tmp_path)
    assert (suite.name, suite.metric, len(suite.predictions)) == ("agreement suite", "sum", 1)
    (item,) = suite.items
    assert item.conditions["mismatch"] == [(1, "the cat"), (2, "sleep"), (3, "near a dog")]


@pytest.mark.parametrize(("relation", "sign"), [("greaterthan", ">"), ("lessthan", "<")])
def test_old_suites_are_formulas(tmp_path: Path, relation: str, sign: str) -> None:
    old = {"relation": relation, "region_number": 2, "l_operand": "match", "r_operand": "mismatch"}
    new = {"type": "formula", "formula": f"(2;%match%) {sign} (2;%mismatch%)"}
    suites = [suite_of(tmp_path, predictions=[each]) for each in (old, new)]
    assert suites[0].predictions == suites[1].predictions


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("sum", "sum"), ("all", "sum"), ("mean", "mean"), (["mean", "sum"], "sum"), (["max"], "max")],
)
def test_suites_name_their_metric(tmp_path: Path, metric: Any, expected: str) -> None:
    assert suite_of(tmp_path, meta={"name": "x", "metric": metric}).metric == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.rstrip(b"\n"),
        gzip.compress,
    ],
    ids=["byte order mark", "CRLF", "no last newline", "gzip"],
)
@pytest.mark.parametrize("text", [TABLE, json_lines(ONE_PREFIX, TWO_PREFIXES)])
def test_details_of_files_do_not_matter(
    tmp_path: Path, text: str, change: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path, "pairs", text)
    expected = pairs_of(path)
    path.write_bytes(change(text.encode()))
    assert pairs_of(path) == expected


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("", "pairs.x", "the file is empty"),
        (" \n\n", "pairs.x", "the file is empty"),
        ("no pairs at all\n", "pairs.x", "not a file of minimal pairs"),
        ('[{"sentence_good": "a", "sentence_bad": "b"}]', "pairs.x", "not a file of minimal pairs"),
        (json_lines(ONE_PREFIX) + "{\n", "pairs.x:2", "not a line of JSON"),
        (json_lines(ONE_PREFIX)[:50], "pairs.x:1", "not a line of JSON"),
        (json_lines({**ONE_PREFIX, "sentence_bad": " "}), "pairs.x:1", "sentence_bad is empty"),
        (json_lines({**ONE_PREFIX, "sentence_bad": 3}), "pairs.x:1", "is not a text"),
        (json_lines({"sentence_good": "a"}), "pairs.x:1", "sentence_bad is missing"),
        (json_lines({**ONE_PREFIX, "UID": None}), "pairs.x:1", "UID is missing"),
        (json_lines({**ONE_PREFIX, "sentence_bad": "a" * 10_001}), "pairs.x:1", "10,001 char"),
        (json_lines({**ONE_PREFIX, "sentence_bad": "\ud800"}), "pairs.x:1", "surrogate"),
        (json_lines({**ONE_PREFIX, "sentence_bad": "a\nb"}), "pairs.x:1", "more than one line"),
        (json_lines({**ONE_PREFIX, "x": [0]}).replace("0", "[" * 9999), "pairs.x:1", "nested"),
        ('{"a":' + "[" * 70 + "]" * 70 + "}", "pairs.x", "nested too deeply"),
        ('{"a":[' + "[]," * 700_000 + "[]]}", "pairs.x", "too much memory"),
        ('{"a": 1}', "pairs.x", "neither a line with sentence_good"),
        ("a\tb\nc\td\n", "pairs.x:1", "no columns 'grammatical' and 'ungrammatical'"),
        ("good\tbad\nc\n", "pairs.x:2", "the row has 1 columns, and the header has 2"),
        ("good\tbad\nc\t\n", "pairs.x:2", "bad is empty"),
        ('good,bad\n"c,d\n', "pairs.x:2", "not a table"),
    ],
)
def test_damaged_files_are_located_errors(tmp_path: Path, text: str, where: str, what: str) -> None:
    with pytest.raises(DataError) as caught:
        read_minimal_pairs(write(tmp_path, "pairs.x", text))
    assert what in caught.value.what
    assert caught.value.where == str(tmp_path / where)


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"gold": ""}, "agreement.gold", "the file is empty"),
        ({"eval": "2\n"}, "agreement", ".text has 2, .eval has 1, .gold has 2"),
        ({"eval": "2\n6\n"}, "agreement.eval:2", "index 6, but the sentence has 6 words"),
        ({"eval": "2\n-1\n"}, "agreement.eval:2", "not the index of a word"),
        ({"eval": "2\n" + "9" * 5000 + "\n"}, "agreement.eval:2", "not the index of a word"),
        ({"eval": "0\n5\n"}, "agreement.eval:1", "which has no context"),
        ({"gold": "2\ta\tb\n" * 2}, "agreement.gold:1", "3 columns, but 4 or at least 8"),
        ({"gold": "2\ta\t\t1\n" * 2}, "agreement.gold:1", "the form is empty"),
        ({"text": "a b c d e f g\n\nb"}, "agreement", ".text has 3"),
    ],
)
def test_damaged_agreement_files_are_located_errors(
    tmp_path: Path, changes: dict[str, str], where: str, what: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_minimal_pairs(write_agreement(tmp_path, **changes))
    assert what in caught.value.what
    assert caught.value.where == str(tmp_path / where)


@pytest.mark.parametrize("missing", [".eval", ".gold"])
def test_missing_agreement_file_is_named(tmp_path: Path, missing: str) -> None:
    text = write_agreement(tmp_path)
    text.with_suffix(missing).unlink()
    with pytest.raises(DataError) as caught:
        read_minimal_pairs(text)
    assert caught.value.where == str(text.with_suffix(missing))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"meta": []}, "meta is missing or is not an object"),
        ({"meta": {"name": "x", "metric": "variance"}}, "unknown metric 'variance'"),
        ({"meta": {"name": "x", "metric": 3}}, "meta.metric is missing"),
        ({"predictions": {}}, "predictions is missing or is not a list"),
        ({"predictions": [{"type": "formula", "formula": "1 <"}]}, "is not valid"),
        ({"predictions": [{"formula": "(2;%other%) < 1"}]}, "the condition 'other'"),
        ({"predictions": [{"formula": "(9;%match%) < 1"}]}, "region 9 of 'match'"),
        ({"predictions": [{"relation": "like"}]}, "unknown relation 'like'"),
        ({"items": [{"conditions": [{"condition_name": "x", "regions": []}]}]}, "has no text"),
        ({"items": [{"conditions": [{"condition_name": "x", "regions": [{}]}]}]}, "region_number"),
        ({"items": [4]}, "an item is missing or is not an object"),
    ],
)
def test_damaged_suites_are_errors(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    with pytest.raises(DataError, match=what):
        suite_of(tmp_path, **change)


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, "table.tsv", TABLE)
    for columns in (Columns(good="fine"), Columns(bad="fine"), Columns(paradigm="fine")):
        with pytest.raises(DataError, match="no column 'fine'") as caught:
            read_minimal_pairs(path, columns)
        assert "test case, grammatical, ungrammatical" in str(caught.value.hint)


@pytest.mark.parametrize("header", ["good\tbad\tgood", "good\tbad\tUID\tUID", "good\tbad\tbad"])
def test_columns_of_the_same_name_are_errors(tmp_path: Path, header: str) -> None:
    path = write(tmp_path, "table.tsv", header + "\n" + "\t".join("abcd"[: len(header.split())]))
    with pytest.raises(DataError, match="the table has 2 columns"):
        read_minimal_pairs(path)


def test_both_sentences_in_one_column_are_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, "table.tsv", TABLE)
    with pytest.raises(DataError, match="both sentences"):
        read_minimal_pairs(path, Columns(good="ungrammatical"))


@pytest.mark.parametrize("text", [json_lines(ONE_PREFIX), json.dumps(SUITE)])
def test_columns_of_other_files_than_tables_are_errors(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "pairs.json", text)
    for columns in (Columns(good="x"), Columns(bad="x"), Columns(paradigm="x")):
        with pytest.raises(UsageError, match="not a table"):
            read_minimal_pairs(path, columns)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_byte_order_mark_names_the_encoding(tmp_path: Path, encoding: str) -> None:
    expected = pairs_of(write(tmp_path, "table.tsv", TABLE))
    path = tmp_path / "table.tsv"
    path.write_bytes(TABLE.encode(encoding))
    assert pairs_of(path) == expected


def test_large_files_and_other_encodings_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "pairs", TABLE)
    path.write_bytes(TABLE.encode() + b"\xff\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_minimal_pairs(path)
    path.write_bytes(TABLE.encode())
    monkeypatch.setattr("ptblm.evaluation.minimal_pairs.reading.MAX_LINES", 4)
    assert len(pairs_of(path)) == 3
    monkeypatch.setattr("ptblm.evaluation.minimal_pairs.reading.MAX_LINES", 3)
    with pytest.raises(DataError, match="more than 3 lines"):
        read_minimal_pairs(path)
    monkeypatch.setattr("ptblm.evaluation.minimal_pairs.reading.MAX_BYTES", 100)
    with pytest.raises(DataError, match="more than 100"):
        read_minimal_pairs(path)


ORIGINALS = {
    "blimp": json_lines(ONE_PREFIX, TWO_PREFIXES),
    "table": TABLE,
    "suite": json.dumps(SUITE),
    **AGREEMENT,
}


@pytest.mark.parametrize("name", ORIGINALS)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_files_are_read_or_are_errors(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    directory = tmp_path_factory.getbasetemp() / "mutated"
    directory.mkdir(exist_ok=True)
    if name.startswith("."):
        path = write_agreement(directory)
        changed = path.with_suffix(name)
    else:
        path = changed = directory / name
    changed.write_bytes(data.draw(mutated(ORIGINALS[name].encode())))
    with contextlib.suppress(DataError):
        assert isinstance(read_minimal_pairs(path), list | AgreementText | Suite)
