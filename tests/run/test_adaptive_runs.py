"""Runs with an adaptive softmax: every command, and what it cannot be combined with."""

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.run.dry_run import dry_run
from ptblm.run.setup import setup_run
from tests.in_process import ptblm
from tests.run.helpers import assert_same_end, last_checkpoint, options, tiny, tiny_config

GOLDEN = Path(__file__).parents[1] / "golden" / "nbest"
ADAPTIVE = ["model.head={type: adaptive, cutoffs: [40, 120]}", "model.dropout=0.2"]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adaptive") / "run"
    code, errors, _ = ptblm("train", *options(tiny(*ADAPTIVE)), "--run-dir", directory)
    assert code == 0, errors
    return directory


def test_run_resumes_exactly(run: Path, in_directory: Path) -> None:
    two = options(tiny(*ADAPTIVE, "training.epochs=2"))
    assert ptblm("train", *two, "--run-dir", "whole")[0] == 0
    shutil.copytree(run, "resumed")
    assert ptblm("train", "--resume", "resumed", "--set", "training.epochs=2")[0] == 0
    assert_same_end(Path("resumed"), Path("whole"))
    code, errors, _ = ptblm("train", "--resume", "whole", "--set", "model.head.div_value=2")
    assert code == 2
    assert "model.head.div_value" in errors


def test_perplexity_is_that_of_the_word_scores(run: Path, in_directory: Path) -> None:
    Path("text").write_text("the cat sat\nthe dog ran\n" * 20)
    stream = "--mode", "stream"
    code, errors, output = ptblm("eval", run, "--text", "text", "--json", *stream)
    assert code == 0, errors
    code, errors, table = ptblm("score", run, "text", "--base", "e", *stream)
    assert code == 0, errors
    rows = list(csv.DictReader(table.splitlines(), delimiter="\t"))
    nll = [float(row["surprisal"]) for row in rows if row["surprisal"] != "NA"]
    assert math.exp(sum(nll) / len(nll)) == pytest.approx(json.loads(output)["perplexity"], 1e-6)


def test_rank_and_entropy_are_those_of_all_words(run: Path, in_directory: Path) -> None:
    """The columns that need the whole distribution do not change the scores."""
    Path("text").write_text("the cat sat\nthe dog ran\n")
    tables = []
    for columns in ("surprisal", "surprisal,entropy,rank"):
        code, errors, table = ptblm("score", run, "text", "--columns", columns)
        assert code == 0, errors
        tables.append(list(csv.DictReader(table.splitlines(), delimiter="\t")))
    for one, all_columns in zip(*tables, strict=True):
        assert float(one["surprisal"]) == pytest.approx(float(all_columns["surprisal"]), 1e-6)
        assert 0 < float(all_columns["entropy"]) < math.log2(247)
        assert 1 <= int(all_columns["rank"]) <= 247


@pytest.mark.parametrize(
    "command",
    [
        ["checkpoint", "verify"],
        ["generate", "--tokens", "5", "--seed", "1"],
        ["eval", "--text", GOLDEN / "kenlm.txt", "--dynamic", "rule=sgd", "--cache", "weight=0.1"],
        ["eval", "--text", GOLDEN / "kenlm.txt", "--mc-samples", "2"],
        ["rescore", "--format", "jsonl", GOLDEN / "jsonl.jsonl"],
    ],
    ids=["verify", "generate", "dynamic and cache", "samples", "rescore"],
)
def test_commands_accept_the_model(command: list[object], run: Path) -> None:
    words = 1 + (command[0] == "checkpoint")
    code, errors, output = ptblm(*command[:words], run, *command[words:])
    assert code == 0, errors + output


def test_new_run_starts_from_its_weights(run: Path, in_directory: Path) -> None:
    code, errors, _ = ptblm("train", "--init", run, "--run-dir", "new", "--dry-run")
    assert code == 0, errors
    changed = ["--set", "model.head.cutoffs=[30]"]
    code, errors, _ = ptblm("train", "--init", run, "--run-dir", "new", *changed)
    assert code == 2
    assert "model.head.cutoffs: is [30], but the checkpoint has [40, 120]" in errors


def test_dry_run_counts_the_weights() -> None:
    """The gradient of the embedding is sparse; all others are as large as the weights."""
    components = setup_run(tiny_config("model.head=adaptive", "model.softmax_bias=zeros"))
    head = components.trainer.model.head
    assert not head.bias.count_nonzero()
    assert [list(weight.shape) for weight in head.parameters()][:2] == [[84, 4], [84]]
    found, parameters = dry_run(components.config), components.trainer.model.parameter_count()
    assert found.parameters == parameters
    assert 2 * 4 * (parameters - 247 * 4) < found.held_bytes - 4 * 247 * 4 < 2 * 4 * parameters


@pytest.mark.parametrize(
    ("cutoffs", "message"),
    [
        ([40, 121], "shape"),
        ([40], "model.head.cluster_weights.1: unknown"),
        ([40, 300], "must be less than the size of the vocabulary"),
    ],
)
def test_cutoffs_that_do_not_fit_the_weights_are_one_error(
    cutoffs: list[int], message: str, run: Path, tmp_path: Path
) -> None:
    """A checkpoint from a stranger: its config contradicts its weights or its vocabulary."""
    checkpoint = load_checkpoint(last_checkpoint(run))
    config = json.loads(json.dumps(checkpoint.config))
    config["model"]["head"]["cutoffs"] = cutoffs
    save_checkpoint(tmp_path / "other.safetensors", replace(checkpoint, config=config))
    for command in (["eval"], ["checkpoint", "verify"]):
        code, errors, output = ptblm(*command, tmp_path / "other.safetensors")
        assert code == 4, errors
        assert message in errors + output


def test_cutoffs_beyond_the_vocabulary_are_one_error(in_directory: Path) -> None:
    wrong = options(tiny("model.head={type: adaptive, cutoffs: [40, 300]}"))
    code, errors, _ = ptblm("train", *wrong, "--run-dir", "new")
    assert code == 2
    assert "model.head.cutoffs: must be less than the size of the vocabulary, 247" in errors
    assert not Path("new").exists()
