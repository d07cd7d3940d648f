"""Judgments on minimal pairs: methods, scores, ties, agreement in one text, and suites."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import DataError
from ptblm.evaluation.minimal_pairs.agreement import AgreementText
from ptblm.evaluation.minimal_pairs.agreement_scores import judge_agreement
from ptblm.evaluation.minimal_pairs.judgments import Judgment, Method, judge_pairs, verdict_of
from ptblm.evaluation.minimal_pairs.pair import Continuation, Pair, Place
from ptblm.evaluation.minimal_pairs.reading import read_minimal_pairs
from ptblm.evaluation.minimal_pairs.spans import Reader
from ptblm.evaluation.minimal_pairs.suite_scores import judge_suite
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite, read_suite, region_values
from ptblm.evaluation.unigram import unigram_nll
from tests.evaluation.pairs_files import SUITE, make_reader, write_agreement

pytestmark = pytest.mark.usefixtures("one_thread")

PLACE = Place("pairs", 1)


def pair(good: str, bad: str, *prefixes: Continuation) -> Pair:
    first, second = prefixes or (None, None)
    return Pair(PLACE, "p", good, bad, None if not first or not second else (first, second))


def judge(reader: Reader, *pairs: Pair, method: Method = "full") -> list[Judgment]:
    return judge_pairs(reader, pairs, method)


def log_p(reader: Reader, text: Sequence[str]) -> np.ndarray:
    """Log p of tokens that follow the token that ends a line, in one call of the model."""
    tokenizer = reader.tokenizer
    unk = tokenizer.ids.get("<unk>", -1)
    ids = [tokenizer.line_end_id, *(tokenizer.ids.get(token, unk) for token in text)]
    row = torch.tensor([ids])
    with torch.inference_mode():
        model = reader.model
        nll, _ = model.nll(row[:, :-1], row[:, 1:], model.initial_state(1))
    return -nll[0].double().numpy()


def words(text: str) -> list[str]:
    return text.split()


def test_full_method_compares_whole_sentences() -> None:
    reader = make_reader()
    texts = ["the cat sleeps", "the cats sleeps near a dog", "a dog sleep"]
    pairs = [pair(good, bad) for good in texts for bad in texts if good != bad]
    for judged, each in zip(judge(reader, *pairs), pairs, strict=True):
        good, bad = (log_p(reader, [*words(text), "<eos>"]).sum() for text in (each.good, each.bad))
        assert judged.scores == pytest.approx((good, bad), rel=1e-5)
        assert judged.verdict == ("right" if good > bad else "wrong")
        assert judged.sentences == (each.good, each.bad)
        assert not judged.same


def test_prefix_method_compares_critical_words() -> None:
    reader = make_reader()
    one = pair(
        "the cat sleeps near .",
        "the cat sleep near .",
        Continuation("the cat", "sleeps"),
        Continuation("the cat", "sleep"),
    )
    two = pair("x", "y", Continuation("", "the cat"), Continuation("a", "the cat"))
    first, second = judge(reader, one, two, method="prefix")
    expected = [log_p(reader, words(f"the cat {verb}"))[-1] for verb in ("sleeps", "sleep")]
    assert first.scores == pytest.approx(expected, rel=1e-5)
    expected = [
        log_p(reader, words("the cat")).sum(),
        log_p(reader, words("a the cat"))[1:].sum(),
    ]
    assert second.scores == pytest.approx(expected, rel=1e-5)


def test_prefix_method_of_a_character_model_includes_the_space() -> None:
    """Otherwise the start of a longer word would always be more probable."""
    for unit in ("char", "byte"):
        reader = make_reader(unit)
        verbs = ("sleeps", "sleep")
        continuations = [Continuation("the cat", verb) for verb in verbs]
        (judged,) = judge(reader, pair("sleeps", "sleep", *continuations), method="prefix")
        expected = [log_p(reader, f"the cat {verb} ")[8:].sum() for verb in verbs]
        assert judged.scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("good", "bad", "good_tokens", "bad_tokens"),
    [
        ("the cat sleeps near a dog", "the cat sleep near a dog", (2, 3), (2, 3)),
        ("the cat sleeps", "a cat sleep", (0, 3), (0, 3)),
        ("the cat sleeps", "the near cat sleeps", (1, 2), (1, 3)),  # with the next token
        ("the cat", "the cat near a dog", (2, 3), (2, 6)),
        ("the the cat", "the cat", (1, 3), (1, 2)),
        ("the cat", "the cat", (0, 3), (0, 3)),
        ("the", "the <eos>", (1, 2), (1, 3)),
    ],
)
def test_target_method_compares_differing_tokens(
    good: str, bad: str, good_tokens: tuple[int, int], bad_tokens: tuple[int, int]
) -> None:
    reader = make_reader()
    (judged,) = judge(reader, pair(good, bad), method="target")
    expected = [
        log_p(reader, [*words(text), "<eos>"])[slice(*tokens)].sum()
        for text, tokens in ((good, good_tokens), (bad, bad_tokens))
    ]
    assert judged.scores == pytest.approx(expected, rel=1e-5)


def test_mean_and_slor_are_per_token() -> None:
    reader = make_reader()
    each = pair("the cat sleeps", "the cats sleeps near a dog")
    unigram = unigram_nll(reader.tokenizer.vocabulary)
    (mean,) = judge_pairs(reader, [each], kind="mean")
    (slor,) = judge_pairs(reader, [each], kind="slor", unigram=unigram)
    for index, text in enumerate((each.good, each.bad)):
        tokens = [*words(text), "<eos>"]
        model = log_p(reader, tokens)
        # The counts are 1, 2, ... 12, each plus one.
        alone = [math.log((reader.tokenizer.ids[token] + 2) / (78 + 12)) for token in tokens]
        assert mean.scores is not None
        assert slor.scores is not None
        assert mean.scores[index] == pytest.approx(model.mean(), rel=1e-5)
        assert slor.scores[index] == pytest.approx((model - alone).mean(), rel=1e-4)


def test_unigram_model_is_smoothed_and_sums_to_one() -> None:
    nll = unigram_nll(Vocabulary(["a", "b", "c"], [0, 2, 5]))
    np.testing.assert_allclose(np.exp(-nll), [0.1, 0.3, 0.6])
    with pytest.raises(ValueError, match="no training counts"):
        unigram_nll(Vocabulary(["a", "b"], [0, 0]))


def test_identical_pairs_are_ties_in_any_batch() -> None:
    texts = [f"the {'cat ' * (k % 5)}sleeps" for k in range(20)]
    pairs = [pair(f"xyz {text}", f"abc {text}") for text in texts]
    pairs += [pair(f"xyz {text}", f"the {text}") for text in texts]
    for batch_size in (1, 3, 64):
        for method in ("full", "target"):
            judged = judge(make_reader(batch_size=batch_size), *pairs, method=method)
            for each in judged[:20]:
                assert (each.verdict, each.same, each.unknown) == ("tie", True, 2)
                assert each.scores is not None
                assert each.scores[0] == each.scores[1]
            assert all((each.verdict != "tie", each.same) == (True, False) for each in judged[20:])


def test_windows_do_not_change_judgments(monkeypatch: pytest.MonkeyPatch) -> None:
    nouns = ["the cat", "a dog", "the dogs near a cat"]
    pairs = [pair(f"{noun} sleeps", f"{noun} sleep") for noun in nouns]
    expected = judge(make_reader(), *pairs)
    monkeypatch.setattr("ptblm.evaluation.minimal_pairs.judgments._WINDOW", 2)
    for found, each in zip(judge(make_reader(), *pairs), expected, strict=True):
        assert found.scores == pytest.approx(each.scores, rel=1e-5)
        assert (found.verdict, found.sentences) == (each.verdict, each.sentences)


def test_repeated_sentences_are_judged_each_time_and_scored_once() -> None:
    scored: list[int] = []
    reader = replace(make_reader(), progress=scored.append)
    each = pair("the cat sleeps", "the cat sleep")
    reverse = pair(each.bad, each.good)
    first, second, third = judge(reader, each, each, reverse)
    assert first == second
    assert {first.verdict, third.verdict} == {"right", "wrong"}
    assert sum(scored) == 2


def test_differences_within_rounding_are_ties() -> None:
    assert verdict_of(-20.0, -20.00001) == "tie"
    assert verdict_of(-20.0, -20.0001) == "right"
    assert verdict_of(-20.0001, -20.0) == "wrong"


def test_unknown_words_are_counted() -> None:
    (judged,) = judge(make_reader(), pair("the xyz sleeps abc", "the cat xyz"))
    assert (judged.words, judged.unknown) == (7, 3)


def test_unknown_words_of_a_closed_vocabulary_are_located_errors() -> None:
    reader = make_reader("byte")
    (judged,) = judge(reader, pair("ä", "b"))
    assert (judged.words, judged.unknown) == (3, 0)
    words_only = make_reader()
    tokenizer = type(words_only.tokenizer)(Vocabulary(["<eos>", "the"], [1, 1]))
    with pytest.raises(DataError, match="'cat' is not in the vocabulary") as caught:
        judge(replace(words_only, tokenizer=tokenizer), pair("the", "cat"))
    assert caught.value.where == "pairs:1"


def agreement(directory: Path, **changes: str) -> AgreementText:
    material = read_minimal_pairs(write_agreement(directory, **changes))
    assert isinstance(material, AgreementText)
    return material


@pytest.mark.parametrize("unit", ["word", "char"])
def test_agreement_carries_the_state_over_the_file(tmp_path: Path, unit: str) -> None:
    """Each form is scored in the text up to it, which begins without context."""
    reader = make_reader(unit)
    text = agreement(tmp_path)
    before: list[str] = []
    for judged, line in zip(judge_agreement(reader, text), text.lines, strict=True):
        expected = []
        for form in (line.right, line.wrong):
            prefix = f"{line.before} "
            both = words(prefix + form) if unit == "word" else [*f"{prefix}{form} "]
            size = 1 if unit == "word" else len(form) + 1
            tokens = [*before, *both]
            tokenizer = reader.tokenizer
            row = torch.tensor([[tokenizer.ids[token] for token in tokens]])
            with torch.inference_mode():
                state = reader.model.initial_state(1)
                nll, _ = reader.model.nll(row[:, :-1], row[:, 1:], state)
            expected.append(-float(nll[0, -size:].sum()))
        assert judged.scores == pytest.approx(expected, rel=1e-5)
        assert judged.verdict == ("right" if expected[0] > expected[1] else "wrong")
        sentence = f"{line.before} {line.rest}"
        before += words(sentence) if unit == "word" else [*sentence]
        before.append("<eos>")


def test_unknown_forms_are_ties(tmp_path: Path) -> None:
    gold = "2\tsees\tsee\t0\n5\tsleep\tsee\t1\n"
    first, second = judge_agreement(make_reader(), agreement(tmp_path, gold=gold))
    assert (first.verdict, first.same, first.unknown) == ("tie", True, 2)
    assert (second.same, second.unknown) == (False, 1)
    assert second.verdict != "tie"


@pytest.mark.parametrize("unit", ["word", "char"])
@pytest.mark.parametrize("metric", ["sum", "max", "mean"])
def test_suites_compare_regions(unit: str, metric: str) -> None:
    reader = make_reader(unit)
    texts = {"match": "the cat |sleeps |near a dog", "mismatch": "the cat |sleep |near a dog"}
    bits = {}
    for name, text in texts.items():
        regions = text.split("|")
        parts = [[*region] if unit == "char" else words(region) for region in regions]
        parts[-1].append("<eos>")
        surprisals = -log_p(reader, [token for part in parts for token in part]) / math.log(2)
        ends = np.cumsum([len(part) for part in parts])
        compute: dict[str, Callable[[np.ndarray], float]] = {
            "sum": np.sum,
            "max": np.max,
            "mean": np.mean,
        }
        bits[name] = [compute[metric](each) for each in np.split(surprisals, ends[:-1])]
    formulas = []
    for number in (1, 2, 3):
        difference = bits["match"][number - 1] - bits["mismatch"][number - 1]
        left = f"(({number};%match%) - ({number};%mismatch%))"
        formulas += [
            f"{left} = {difference:.6f} - 0".replace("= -", "= 0 -"),
            f"{left} > {difference + 1:.6f}".replace("> -", "> 0 -"),
        ]
    total = sum(bits["match"])
    formulas += [f"(*;%match%) = {total:.6f}", f"(*;%match%) < {total - 0.1:.6f}"]
    content = {
        **SUITE,
        "meta": {"name": "s", "metric": metric},
        "predictions": [{"type": "formula", "formula": each} for each in formulas],
    }
    judged = judge_suite(reader, read_suite(content, "suite"))
    assert [each.verdict for each in judged] == ["right", "wrong"] * 4
    assert judged[0].paradigm == "s, prediction 1"
    assert judged[-1].groups == {"suite": "s"}


def suite(*contents: str) -> Suite:
    """A suite of one item with conditions a and b of one region."""
    conditions = [
        {"condition_name": name, "regions": [{"region_number": 1, "content": content}]}
        for name, content in zip("ab", contents, strict=True)
    ]
    predictions = [{"type": "formula", "formula": "(1;%a%) < (1;%b%)"}]
    meta = {"name": "s", "metric": "sum"}
    items = [{"item_number": 1, "conditions": conditions}]
    return read_suite({"meta": meta, "predictions": predictions, "items": items}, "suite")


def test_suites_count_conditions_that_are_the_same() -> None:
    """A formula that compares equal values with `<` is not true, as in SyntaxGym."""
    (judged,) = judge_suite(make_reader(), suite("the xyz", "the abc"))
    assert (judged.same, judged.verdict) == (True, "wrong")
    assert (judged.words, judged.unknown, judged.paradigm) == (4, 2, "s")
    (judged,) = judge_suite(make_reader(), suite("the cat", "the abc"))
    assert not judged.same


def test_region_values_have_all_metrics() -> None:
    surprisals = np.array([1.0, 4.0, 2.5, 3.0])
    expected: dict[str, list[float]] = {
        "sum": [7.5, 0, 3],
        "mean": [2.5, 0, 3],
        "median": [2.5, 0, 3],
        "range": [3, 0, 0],
        "max": [4, 0, 3],
        "min": [1, 0, 3],
    }
    for metric, values in expected.items():
        np.testing.assert_allclose(region_values(surprisals, [3, 0, 1], metric), values)
