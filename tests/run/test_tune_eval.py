"""`ptblm tune-eval`: the file that it writes, what it reads, and its errors."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.evaluation_loading import SettingsOptions, load_settings
from ptblm.run.pipelines import file_sha256
from ptblm.run.tune_eval import settings_text
from tests.conftest import FAST, write_small_corpus
from tests.in_process import ptblm
from tests.run.helpers import last_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a corpus and two runs. Tests must not change it."""
    directory = tmp_path_factory.mktemp("tuned")
    corpus = write_small_corpus(directory / "corpus")
    for seed in (0, 1):
        run = ["--run-dir", directory / f"run{seed}", "--data", corpus, "--seed", seed]
        code, errors, _ = ptblm("train", *FAST, *run)
        assert code == 0, errors
    return directory


def tune(*options: object) -> dict[str, Any]:
    code, errors, output = ptblm("tune-eval", *options, "--json")
    assert code == 0, errors
    result: dict[str, Any] = json.loads(output)
    return result


def perplexity(*options: object) -> float:
    code, errors, output = ptblm("eval", *options, "--json")
    assert code == 0, errors
    return float(json.loads(output)["perplexity"])


@pytest.mark.usefixtures("in_directory")
def test_eval_with_the_file_gives_the_tuned_perplexity(prepared: Path) -> None:
    runs = [prepared / "run0", prepared / "run1"]
    result = tune(*runs, "--cache", "--dynamic", "--segment-length", 20, "--to", "s.json")
    tuned = result["tuned"]
    assert tuned["perplexity_after"] <= tuned["perplexity_before"]
    assert perplexity(*runs, "--split", "valid") == pytest.approx(tuned["perplexity_before"])
    found = perplexity(*runs, "--split", "valid", "--settings", "s.json")
    assert found == pytest.approx(tuned["perplexity_after"])
    assert result["weights"] is not None
    assert (
        tuned["tokens"]
        == json.loads(ptblm("eval", runs[0], "--split", "valid", "--json")[2])["tokens"]
    )
    hashes = [file_sha256(last_checkpoint(run)) for run in runs]
    assert [each["sha256"] for each in tuned["checkpoints"]] == hashes
    keys = {key for each in tuned["tried"] for key in each}
    assert {"temperature", "cache.theta", "dynamic.decay", "weights.1", "perplexity"} <= keys


@pytest.mark.usefixtures("in_directory")
def test_file_can_be_read_and_edited(prepared: Path) -> None:
    tune(prepared / "run0")
    path = Path("eval-settings.json")  # the default
    settings = load_settings(SettingsOptions(path))
    assert settings_text(settings) == path.read_text(encoding="utf-8")
    path.write_text(path.read_text().replace('"cache": null', '"cache": {"weight": 0.25}'))
    code, _, output = ptblm("eval", prepared / "run0", "--settings", path)
    assert code == 0
    assert "weight 0.25" in output


@pytest.mark.usefixtures("in_directory")
def test_score_with_the_file_gives_the_tuned_perplexity(prepared: Path) -> None:
    tuned = tune(prepared / "run0", "--cache")["tuned"]
    text = prepared / "corpus" / "valid.txt"
    options = ["--mode", "stream", "--settings", "eval-settings.json"]
    code, errors, output = ptblm("score", prepared / "run0", text, *options)
    assert code == 0, errors
    _, *rows = csv.DictReader(output.splitlines(), delimiter="\t")  # the first has no context
    bits = [float(row["surprisal"]) for row in rows]
    perplexity = 2 ** (sum(bits) / len(bits))
    assert perplexity == pytest.approx(tuned["perplexity_after"], rel=1e-5)
    assert perplexity < tuned["perplexity_before"]


@pytest.mark.parametrize("options", [[], ["--dynamic", "--cache"]])
@pytest.mark.usefixtures("in_directory")
def test_test_text_is_never_opened(prepared: Path, options: list[str]) -> None:
    """Opening a named pipe would wait forever, or fail."""
    shutil.copytree(prepared / "corpus", "corpus")
    shutil.copytree(prepared / "run0", "run")
    expected = tune("run", "--data", "corpus", "--max-tokens", 30, *options)
    Path("corpus/test.txt").unlink()
    os.mkfifo("corpus/test.txt")
    assert tune("run", "--data", "corpus", "--max-tokens", 30, *options) == expected
    assert ptblm("eval", "run", "--data", "corpus")[0] == 3  # which reads it


@pytest.mark.usefixtures("in_directory")
def test_start_of_the_text_can_be_selected(prepared: Path) -> None:
    tuned = tune(prepared / "run0", "--max-tokens", 25)["tuned"]
    assert tuned["tokens"] == 25
    words = (prepared / "corpus" / "valid.txt").read_text().replace("\n", " <eos> ").split()[:26]
    Path("start.txt").write_text(" ".join(words).replace(" <eos> ", "\n"))
    static = perplexity(prepared / "run0", "--text", "start.txt")
    # The file has one more token, the end of its last line.
    assert static == pytest.approx(tuned["perplexity_before"], rel=0.2)


@pytest.mark.usefixtures("in_directory")
def test_text_output_names_file_and_next_command(prepared: Path) -> None:
    code, errors, output = ptblm(
        "tune-eval", prepared / "run0", "--mc-samples", 2, "--to", "a b.json"
    )
    assert code == 0, errors
    assert "before       perplexity " in output
    assert "after        perplexity " in output
    assert "Monte-Carlo dropout" in output
    assert "written      a b.json" in output
    assert f"ptblm eval {last_checkpoint(prepared / 'run0')} --settings 'a b.json'" in output


@pytest.mark.usefixtures("in_directory")
def test_settings_of_another_checkpoint_are_noted(prepared: Path) -> None:
    tune(prepared / "run0", "--to", "s.json")
    note = "note: the settings were tuned for other checkpoints"
    assert note in ptblm("eval", prepared / "run1", "--settings", "s.json")[1]
    assert note not in ptblm("eval", prepared / "run0", "--settings", "s.json")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["RUN", "--segment-length", "5"], 2, "--segment-length needs --dynamic"),
        (["RUN", "--to", "missing/s.json"], 2, "the settings cannot be written"),
        (["RUN", "--to", "RUN"], 2, "the settings cannot be written"),
        (["CHECKPOINT", "--to", "CHECKPOINT"], 2, "the same command reads this file"),
        (["RUN", "--data", "nowhere"], 3, "nowhere"),
        (["RUN", "--mc-samples", "-1"], 2, "--mc-samples"),
        (["nothing"], 4, "nothing"),
        ([], 2, "missing argument"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_errors(prepared: Path, arguments: list[str], code: int, message: str) -> None:
    run = prepared / "run0"
    names = {"RUN": str(run), "CHECKPOINT": str(last_checkpoint(run))}
    before = last_checkpoint(run).read_bytes()
    found, errors, _ = ptblm("tune-eval", *(names.get(word, word) for word in arguments))
    assert found == code
    assert message in errors
    assert last_checkpoint(run).read_bytes() == before
    assert os.listdir() == []


@pytest.mark.usefixtures("in_directory")
def test_weights_without_a_finite_perplexity(prepared: Path) -> None:
    checkpoint = load_checkpoint(last_checkpoint(prepared / "run0"))
    checkpoint.model["head.weight"][:] = 1e38  # finite, but too large
    checkpoint.model["head.weight"][::2] *= -1
    save_checkpoint(Path("bad.safetensors"), checkpoint)
    code, errors, _ = ptblm("tune-eval", "bad.safetensors")
    assert code == 4
    assert "error: the weights give no finite perplexity" in errors
    assert not Path("eval-settings.json").exists()
