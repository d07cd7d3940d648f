"""`ptblm pairs`: a model of a toy language, options, output and files of predictions."""

import json
import random
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

import ptblm as ptblm_package
from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config
from ptblm.errors import DataError, UsageError
from ptblm.run.train import train
from tests.evaluation.pairs_files import SUITE, TABLE, json_lines, write, write_agreement
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

NOUNS = [("cat", "cats"), ("dog", "dogs"), ("bird", "birds"), ("child", "children")]
VERBS = [("sleeps", "sleep"), ("sings", "sing"), ("runs", "run")]
ADJECTIVES = ["", "small ", "old ", "small old "]


def sentence(noun: int, verb: int, number: int, adjective: str, form: int) -> str:
    """A sentence whose verb agrees with its noun if `form` equals `number`."""
    return f"the {adjective}{NOUNS[noun][number]} {VERBS[verb][form]}"


ALL = list(product(range(4), range(3), range(2), ADJECTIVES))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny models are faster with one thread on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned a language of nouns and verbs that agree."""
    directory = tmp_path_factory.mktemp("toy")
    draw = random.Random(0)
    lines = [sentence(*each, form=each[2]) for each in (draw.choice(ALL) for _ in range(1500))]
    corpus = directory / "corpus"
    corpus.mkdir()
    for name, some in (("train", lines), ("valid", lines[:50]), ("test", lines[:50])):
        (corpus / f"{name}.txt").write_text("\n".join(some) + "\n")
    overrides = {
        "data.path": corpus,
        "model.hidden_size": 16,
        "model.num_layers": 1,
        "model.dropout": 0,
        "training.batch_size": 10,
        "training.num_steps": 10,
        "training.epochs": 3,
    }
    config = load_config("small", [f"{key}={value}" for key, value in overrides.items()])
    train(config, directory / "run")
    return directory / "run"


def pairs(*arguments: object) -> tuple[int, str, str]:
    return ptblm("pairs", *arguments, "--device", "cpu")


def result(*arguments: object) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    code, errors, output = pairs(*arguments, "--json")
    assert code == 0, errors
    content: dict[str, Any] = json.loads(output)
    return content


@pytest.fixture
def blimp(tmp_path: Path) -> Path:
    """All pairs of the toy language."""
    rows = [
        {
            "sentence_good": sentence(*each, form=each[2]),
            "sentence_bad": sentence(*each, form=1 - each[2]),
            "one_prefix_prefix": sentence(*each, form=each[2]).rpartition(" ")[0],
            "one_prefix_word_good": VERBS[each[1]][each[2]],
            "one_prefix_word_bad": VERBS[each[1]][1 - each[2]],
            "UID": "plural" if each[2] else "singular",
            "field": "morphology",
        }
        for each in ALL
    ]
    return write(tmp_path, "toy.jsonl", json_lines(*rows))


@pytest.mark.parametrize("method", ["full", "prefix", "target"])
@pytest.mark.parametrize("score", ["sum", "mean", "slor"])
def test_trained_model_gets_agreement_right(
    model: Path, blimp: Path, method: str, score: str
) -> None:
    found = result(model, blimp, "--method", method, "--score", score)
    assert found["accuracy"] > 0.95
    assert (found["pairs"], found["ties"], found["unknown_words"]) == (96, 0, 0)
    assert set(found["by_paradigm"]) == {"plural", "singular"}
    assert found["by_group"]["field"]["morphology"]["pairs"] == 96


def test_trained_model_gets_agreement_files_right(model: Path, tmp_path: Path) -> None:
    lines = [sentence(*each, form=each[2]) for each in ALL]
    words = [line.split() for line in lines]
    forms = [(VERBS[each[1]][each[2]], VERBS[each[1]][1 - each[2]]) for each in ALL]
    text = write_agreement(
        tmp_path,
        text="".join(f"{line} <eos>\n" for line in lines),
        eval="".join(f"{len(each) - 1}\n" for each in words),
        gold="".join(
            f"{len(each) - 1}\t{right}\t{wrong}\t{k % 3}\n"
            for k, (each, (right, wrong)) in enumerate(zip(words, forms, strict=True))
        ),
    )
    found = result(model, text)
    assert found["accuracy"] > 0.95
    assert found["compared"] == ["log p of the target word, given the whole text before it"]
    assert [each["pairs"] for each in found["by_group"]["attractors"].values()] == [32] * 3
    full = result(model, text, "--method", "full")
    assert full["accuracy"] > 0.95
    assert full["compared"] != found["compared"]


def test_trained_model_gets_suites_right(model: Path, tmp_path: Path) -> None:
    text = json.dumps(SUITE).replace("near a dog", "")
    found = result(model, write(tmp_path, "suite.json", text))
    assert (found["accuracy"], found["pairs"]) == (1, 1)
    assert found["by_paradigm"]["agreement suite"]["right"] == 1


def test_files_of_all_formats_are_evaluated_together(
    model: Path, tmp_path: Path, blimp: Path
) -> None:
    suite = write(tmp_path, "suite.json", json.dumps(SUITE))
    files = [blimp, write(tmp_path, "table.tsv", TABLE), write_agreement(tmp_path), suite]
    found = result(model, *files)
    assert list(found["by_paradigm"]) == [
        "singular",
        "plural",
        "simple",
        "across",
        "agreement",
        "agreement suite",
    ]
    assert found["paradigms"] == 6
    assert found["pairs"] == 96 + 3 + 2 + 1
    assert len(found["compared"]) == 3
    assert found["files"] == list(map(str, files))


def test_table_reports_ties_and_warns_of_same_pairs(model: Path, tmp_path: Path) -> None:
    rows = "the cat sleeps\tthe cat sleep\nthe cat sees\tthe cat saw\nthe x runs\tthe y run\n"
    path = write(tmp_path, "ties.tsv", f"good\tbad\n{rows}")
    code, errors, output = pairs(model, path)
    assert code == 0
    assert "warning: 33.3% of the pairs are the same words for the model" in errors
    assert "--tokenize ptb-lower" in errors
    (row,) = (line.split() for line in output.splitlines() if line.startswith("overall"))
    assert row[-3:] == ["3", "1", "22.2%"]
    found = result(model, path)
    assert (found["right"], found["ties"], found["same_pairs"]) in [(1, 1, 1), (2, 1, 1)]
    assert found["accuracy"] == pytest.approx((found["right"] + 0.5) / 3)
    assert result(model, path, "--strict")["accuracy"] == pytest.approx(found["right"] / 3)
    assert result(model, path, "--strict")["ties"] == 1


def test_tokenizer_option_leaves_out_punctuation(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("nltk")
    rows = (
        "The cat sleeps.\tThe cat sleep.\nThe small birds sing, run!\tThe small bird sing, run!\n"
    )
    path = write(tmp_path, "raw.tsv", f"good\tbad\n{rows}")
    found = result(model, path, "--tokenize", "ptb-lower")
    assert (found["unknown_words"], found["words"], found["accuracy"]) == (0, 16, 1)
    assert result(model, path)["unknown_words"] == 10
    assert result(model, path, "--tokenize", "ptb")["unknown_words"] == 4


def test_results_do_not_depend_on_batches(model: Path, blimp: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"{size}.tsv" for size in (1, 64)]
    for size, path in zip((1, 64), files, strict=True):
        result(model, blimp, "--batch-size", size, "--predictions", path)
    first, second = (
        [line.split("\t") for line in path.read_text().splitlines()[1:]] for path in files
    )
    for one, other in zip(first, second, strict=True):
        assert [*one[:3], one[5]] == [*other[:3], other[5]]
        assert float(one[3]) == pytest.approx(float(other[3]), rel=1e-5)


def test_predictions_are_a_row_per_pair(model: Path, tmp_path: Path) -> None:
    text = 'good\tbad\tUID\nthe cat sleeps\tthe cat sleep\ta "\x1b" b\nx\ty\ta "\x1b" b\n'
    table, predictions = write(tmp_path, "t.tsv", text), tmp_path / "p.tsv"
    found = result(model, table, "--predictions", predictions)
    header, first, second = (line.split("\t") for line in predictions.read_text().splitlines())
    assert header == ["id", "field", "uid", "good", "bad", "verdict"]
    assert first[:3] == ['a "\\x1b" b_0', "NA", 'a "\\x1b" b']
    assert first[5] == ("right" if float(first[3]) > float(first[4]) else "wrong")
    assert (second[3], second[5]) == (second[4], "tie")
    assert found["ties"] == 1


def test_json_predictions_have_the_shape_of_babylm(
    model: Path, blimp: Path, tmp_path: Path
) -> None:
    ties = write(tmp_path, "ties.tsv", "good\tbad\n" + "the x\tthe y\n" * 4)
    predictions = tmp_path / "predictions.json"
    found = result(model, blimp, ties, "--predictions", predictions)
    content = json.loads(predictions.read_text())["blimp"]
    assert set(content) == {"singular", "plural", "ties"}
    plural = content["plural"]["predictions"]
    assert [each["id"] for each in plural] == [f"plural_{k}" for k in range(48)]
    good = {sentence(*each, form=each[2]) for each in ALL}
    right = sum(each["pred"] in good for each in plural)
    assert right == found["by_paradigm"]["plural"]["right"]
    assert [each["pred"] for each in content["ties"]["predictions"]] == ["the x", "the y"] * 2
    result(model, ties, "--predictions", predictions, "--strict")
    (strict,) = json.loads(predictions.read_text())["blimp"].values()
    assert {each["pred"] for each in strict["predictions"]} == {"the y"}


def test_api_judges_sentences_and_files(model: Path, blimp: Path) -> None:
    loaded = ptblm_package.load(model, device="cpu")
    sentences = [("the cat sleeps", "the cat sleep"), ("the x runs", "the y runs")]
    found = loaded.pairs(iter(sentences))
    assert [each.verdict for each in found.judgments] == ["right", "tie"]
    assert [each.sentences for each in found.judgments] == sentences
    assert found.accuracy == 0.75
    assert loaded.pairs(sentences, strict=True, method="target").accuracy == 0.5
    whole = loaded.pairs(blimp, method="prefix", score="slor")
    command = result(model, blimp, "--method", "prefix", "--score", "slor")
    assert whole.accuracy == command["accuracy"]
    assert set(whole.summary.groups) == {"field"}
    with pytest.raises(DataError, match="the ungrammatical sentence is empty") as caught:
        loaded.pairs([*sentences, ("a", " ")])
    assert caught.value.where == "pairs:3"
    with pytest.raises(UsageError, match="expected sum, mean, slor, got 'max'"):
        loaded.pairs(sentences, score="max")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no pairs"):
        loaded.pairs([])


def test_slor_needs_training_counts(model: Path, blimp: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(last_checkpoint(model))
    checkpoint.vocabulary["counts"] = [0] * len(checkpoint.vocabulary["tokens"])
    path = tmp_path / "no_counts.safetensors"
    save_checkpoint(path, checkpoint)
    code, errors, _ = pairs(path, blimp, "--score", "slor")
    assert code == 4
    assert "the vocabulary has no training counts" in errors
    assert pairs(path, blimp, "--score", "mean")[0] == 0


def test_prefix_method_notes_what_is_left_out(model: Path, blimp: Path, tmp_path: Path) -> None:
    table = write(tmp_path, "table.tsv", TABLE)
    code, errors, _ = pairs(model, blimp, table, "--method", "prefix")
    assert code == 0
    assert "note: 2 of 4 paradigms are left out" in errors


@pytest.mark.parametrize("name", ["toy.gold", "./toy.text", "linked.txt", "checkpoint"])
def test_predictions_never_replace_an_input(model: Path, in_directory: Path, name: str) -> None:
    path = write_agreement(in_directory).rename("toy.text")
    for suffix in (".gold", ".eval"):
        next(in_directory.glob(f"*{suffix}")).rename(f"toy{suffix}")
    Path("linked.txt").hardlink_to(path)
    target = last_checkpoint(model) if name == "checkpoint" else Path(name)
    content = target.read_bytes()
    code, errors, output = pairs(model, path, "--predictions", target)
    assert (code, output) == (2, "")
    assert "--predictions: cannot be written: the same command reads this file" in errors
    assert target.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["TABLE", "--method", "prefix"], 2, "do not contain the texts of the prefix methods"),
        (["SUITE", "--method", "full"], 2, "--method: a suite of SyntaxGym"),
        (["SUITE", "--score", "sum", "--method", "target"], 2, "--method and --score: a suite"),
        (["SUITE", "--predictions", "p.json"], 2, "--predictions: BabyLM's JSON"),
        (["TABLE", "--predictions", "missing/p.tsv"], 2, "--predictions: cannot be written"),
        (["TABLE", "--cell", "gru"], 2, "--cell gru: the checkpoint has lstm"),
        (["missing.tsv"], 3, "missing.tsv"),
        (["."], 3, "not a regular file"),
        (["TABLE", "--good", "fine"], 3, "no column 'fine'"),
        (["TABLE", "--batch-size", "0"], 2, "--batch-size"),
    ],
)
def test_unsuitable_options_are_clear_errors(
    model: Path, in_directory: Path, options: list[str], code: int, message: str
) -> None:
    files = {
        "TABLE": write(in_directory, "table.tsv", TABLE),
        "SUITE": write(in_directory, "suite.json", json.dumps(SUITE)),
    }
    found, errors, output = pairs(model, *(files.get(option, option) for option in options))
    assert (found, output) == (code, "")
    assert message in errors
    assert "Traceback" not in errors
