"""Ensembles, temperature, dropout samples, cache and dynamic evaluation of `eval` and `score`."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from tests.conftest import FAST
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "the cat ran .\na dog sat\n\nthe cat ran .\na dog sat\n"
NEUTRAL = ["--temperature", "1", "--mc-samples", "0", "--cache", "weight=0"]
NEUTRAL += ["--dynamic", "learning_rate=0"]
STAGES = {
    "temperature": ["--temperature", "0.8"],
    "Monte-Carlo": ["--mc-samples", "2"],
    "cache": ["--cache", "window=6,theta=0.5,weight=0.3"],
    "dynamic": ["--dynamic", "rule=sgd,learning_rate=0.3,segment_length=3"],
    "rms": ["--dynamic", "learning_rate=0.001,segment_length=2"],
}
STAGES["all"] = [
    word for stage in ("temperature", "Monte-Carlo", "cache", "dynamic") for word in STAGES[stage]
]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    (tmp_path / "new.txt").write_text(TEXT)
    return tmp_path / "new.txt"


@pytest.fixture(scope="module")
def other(models: Path) -> Path:
    """Another run with the same vocabulary."""
    run = ["--run-dir", models / "other", "--data", models / "text.txt", "--seed", 5]
    code, errors, _ = ptblm("train", *FAST, *run)
    assert code == 0, errors
    return models / "other"


def evaluate(*options: object) -> dict[str, Any]:
    code, errors, output = ptblm("eval", *options, "--json")
    assert code == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


def score(*options: object) -> list[dict[str, str]]:
    code, errors, output = ptblm("score", *options, "--base", "e")
    assert code == 0, errors
    return list(csv.DictReader(output.splitlines(), delimiter="\t", strict=True))


def surprisals(table: list[dict[str, str]]) -> list[float]:
    return [float(row["surprisal"]) for row in table if row["surprisal"] != "NA"]


def fails(code: int, *arguments: object) -> str:
    found, errors, _ = ptblm(*arguments)
    assert found == code, errors
    assert "Traceback" not in errors
    return errors


@pytest.mark.parametrize("tokenizer", ["word", "char", "byte"])
@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_neutral_options_change_no_bit(models: Path, text: Path, tokenizer: str, mode: str) -> None:
    options = [models / tokenizer, "--text", text, "--mode", mode]
    assert evaluate(*options, *NEUTRAL) == evaluate(*options)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("mode", ["stream", "sentence", "document"])
def test_eval_and_score_agree(models: Path, text: Path, stage: str, mode: str) -> None:
    options = [models / "word", *STAGES[stage], "--mode", mode]
    result = evaluate(*options, "--text", text)
    static = evaluate(models / "word", "--mode", mode, "--text", text)
    assert result["nats_per_token"] != static["nats_per_token"]
    found = surprisals(score(models / "word", text, *options[1:]))
    assert len(found) == result["tokens"]
    assert sum(found) == pytest.approx(result["tokens"] * result["nats_per_token"], rel=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_sentences_and_documents_start_anew(models: Path, text: Path, stage: str) -> None:
    """The second half of the text repeats the first, after a blank line."""
    tables = {
        m: score(models / "word", text, *STAGES[stage], "--mode", m)
        for m in ("sentence", "document", "stream")
    }
    sentences, documents, stream = map(surprisals, tables.values())
    assert sentences[:9] == pytest.approx(sentences[10:], rel=1e-5)  # [9] is the blank line
    assert documents[:9] == pytest.approx(documents[9:], rel=1e-5)
    assert stream[1:8] != pytest.approx(stream[10:17], rel=1e-5)


def test_ensemble_averages_probabilities(models: Path, other: Path, text: Path) -> None:
    first, second = (surprisals(score(run, text)) for run in (models / "word", other))
    both = surprisals(score(models / "word", text, "--ensemble", other))
    means = [(math.exp(-a) + math.exp(-b)) / 2 for a, b in zip(first, second, strict=True)]
    assert [math.exp(-each) for each in both] == pytest.approx(means, rel=1e-5)
    result = evaluate(models / "word", other, "--text", text, "--mode", "sentence")
    assert result["tokens"] * result["nats_per_token"] == pytest.approx(sum(both), rel=1e-6)
    assert result["ensemble"] == [str(last_checkpoint(other))]
    assert "ensemble of 2 models" in result["method"]


def test_measures_are_those_of_the_final_distribution(
    models: Path, other: Path, text: Path
) -> None:
    options = ["--ensemble", other, *STAGES["all"], "--columns", "entropy,rank", "--top", "20"]
    for row in score(models / "word", text, *options, "--mode", "document"):
        nats = [
            float(row[f"top{k}_surprisal"]) for k in range(1, 21) if row.get(f"top{k}_surprisal")
        ]
        probs = [math.exp(-each) for each in nats]
        assert sum(probs) == pytest.approx(1, abs=1e-5)
        assert probs == sorted(probs, reverse=True)
        assert float(row["entropy"]) == pytest.approx(
            sum(p * n for p, n in zip(probs, nats, strict=True)), abs=1e-5
        )
        rank = int(row["rank"])
        assert nats[rank - 1] == pytest.approx(float(row["surprisal"]), abs=1e-6)


def test_output_names_the_kind_of_evaluation(models: Path, text: Path) -> None:
    options = [models / "word", "--text", text]
    plain = ptblm("eval", *options)[2]
    assert "method" not in plain
    assert evaluate(*options)["method"] == "deterministic, static weights"
    for stage, words in {
        "temperature": "deterministic, static weights",
        "Monte-Carlo": "Monte-Carlo dropout, static weights",
        "cache": "deterministic, static weights, neural cache",
        "dynamic": "deterministic, dynamic evaluation",
    }.items():
        output = ptblm("eval", *options, *STAGES[stage])[2]
        assert f"method       {words}\n" in output
        result = evaluate(*options, *STAGES[stage])
        assert result["method"] == words
        assert result["protocol"] != evaluate(*options)["protocol"]
    assert result["settings"]["dynamic"]["learning_rate"] == 0.3
    header = ptblm("score", models / "word", text, *STAGES["cache"], "--header")[2]
    assert "# evaluation: neural cache of 6 tokens" in header


def test_checkpoints_of_different_vocabularies(
    models: Path, small_corpus: Path, tmp_path: Path
) -> None:
    message = fails(2, "eval", models / "word", models / "char")
    assert "characters instead of words as tokens" in message
    run = tmp_path / "small"
    assert ptblm("train", *FAST, "--data", small_corpus, "--run-dir", run)[0] == 0
    message = fails(2, "score", models / "word", "--ensemble", run, small_corpus / "test.txt")
    assert "another vocabulary than" in message
    assert str(last_checkpoint(run)) in message


def test_damaged_member_of_an_ensemble(
    models: Path, other: Path, tmp_path: Path, text: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    content = bytearray(last_checkpoint(other).read_bytes())
    content[-10] ^= 1
    damaged.write_bytes(content)
    message = fails(4, "eval", models / "word", damaged, "--text", text)
    assert str(damaged) in message


def test_model_without_dropout_has_no_samples(small_corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fast = [each.replace("dropout=0.1", "dropout=0") for each in FAST]
    options = [*fast, "--data", small_corpus, "--run-dir", run]
    assert ptblm("train", *options)[0] == 0
    assert "the model has no dropout" in fails(2, "eval", run, "--mc-samples", "3")


def test_weights_must_fit_the_checkpoints(
    models: Path, other: Path, tmp_path: Path, text: Path
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("weights: [0.3, 0.7]\n")
    message = fails(2, "eval", models / "word", "--settings", path, "--text", text)
    assert "contain 2 weights of checkpoints, and the number of checkpoints is 1" in message
    result = evaluate(models / "word", other, "--settings", path, "--text", text)
    assert "with the weights 0.3, 0.7" in result["protocol"]


def test_dynamic_evaluation_without_training_text(models: Path, tmp_path: Path, text: Path) -> None:
    """Rule rms needs it, rule sgd does not."""
    run = tmp_path / "run"
    (tmp_path / "mine.txt").write_text((models / "text.txt").read_text())
    assert ptblm("train", *FAST, "--data", tmp_path / "mine.txt", "--run-dir", run)[0] == 0
    (tmp_path / "mine.txt").unlink()
    message = fails(3, "eval", run, "--text", text, "--dynamic", "rule=rms")
    assert "hint: dynamic evaluation computes the size of gradients on the training text" in message
    assert evaluate(run, "--text", text, "--dynamic", "rule=sgd")["tokens"] > 0


def test_states_are_those_of_one_static_model(models: Path, tmp_path: Path, text: Path) -> None:
    states = ["--states", tmp_path / "states.npz"]
    for options in (STAGES["cache"], ["--ensemble", models / "word"]):
        message = fails(2, "score", models / "word", text, *states, *options)
        assert "--states: the hidden states are those of one model with fixed weights" in message
    assert ptblm("score", models / "word", text, *states, *NEUTRAL)[0] == 0


def test_table_is_scored_with_settings(models: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "table.tsv").write_text("word\nthe\ncat\nran\n")
    (tmp_path / "line.txt").write_text("the cat ran\n")
    options = ["--ensemble", other, "--temperature", "0.5"]
    table = score(models / "word", tmp_path / "table.tsv", "--table", *options)
    line = score(models / "word", tmp_path / "line.txt", *options)
    assert surprisals(table) == pytest.approx(surprisals(line)[:3])


def test_dynamic_evaluation_that_diverges(models: Path, text: Path) -> None:
    rate = ["--dynamic", "rule=sgd,learning_rate=1e30", "--temperature", "1e-15"]
    for arguments in (["eval", models / "word", "--text", text], ["score", models / "word", text]):
        message = fails(2, *arguments, *rate, "--mode", "document")
        assert "error: dynamic evaluation gives no finite " in message
        assert "hint: use a smaller learning_rate" in message


def test_temperature_that_is_too_low_is_named(models: Path, tmp_path: Path, text: Path) -> None:
    low = ["--text", text, "--temperature", "1e-9"]
    message = fails(2, "eval", models / "word", *low)
    assert "error: temperature 1e-09 gives no finite perplexity" in message
    assert "hint: use a temperature nearer to 1" in message
    message = fails(2, "eval", models / "word", *low, "--dynamic", "rule=sgd")
    assert "hint: use a smaller learning_rate, or a larger decay or epsilon, or a temp" in message
    checkpoint = load_checkpoint(last_checkpoint(models / "word"))
    checkpoint.model["head.bias"][::2] = 1e38
    save_checkpoint(tmp_path / "bad.safetensors", checkpoint)
    high = ["--text", text, "--temperature", "2"]
    message = fails(4, "eval", tmp_path / "bad.safetensors", *high)
    assert "error: the weights give no finite perplexity" in message
