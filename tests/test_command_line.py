"""What a person meets: exit codes, errors, help, in a fresh process as they would start it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Ptblm, plain_environment

FAST = ["--set", "model.hidden_size=8", "--set", "training.epochs=2", "--set", "model.dropout=0.1"]
FAST += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]


@pytest.fixture
def run_directory(ptblm: Ptblm, tmp_path: Path, small_corpus: Path) -> Path:
    result = ptblm("train", "--data", small_corpus, "--run-dir", tmp_path / "run", *FAST)
    assert result.returncode == 0, result.stderr
    return tmp_path / "run"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['ptblm', '--help']\n"
        "from ptblm.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=plain_environment(), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    for command in ("train", "eval", "download-data", "config"):
        assert command in result.stdout


def test_a_run_leaves_what_it_should(run_directory: Path) -> None:
    files = {str(path.relative_to(run_directory)) for path in run_directory.rglob("*.*")}
    assert files == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
    }
    metrics = [
        json.loads(line) for line in (run_directory / "metrics.jsonl").read_text().splitlines()
    ]
    assert [record["kind"] for record in metrics if record["kind"] != "step"] == [
        "epoch",
        "epoch",
        "test",
    ]
    result = json.loads((run_directory / "result.json").read_text())
    assert result["test_perplexity"] == metrics[-1]["test_perplexity"]
    environment = json.loads((run_directory / "environment.json").read_text())
    assert environment["command"][1] == "train"
    assert environment["versions"]["torch"]


def test_the_table_is_on_stdout_and_the_rest_on_stderr(ptblm: Ptblm, small_corpus: Path) -> None:
    result = ptblm("train", "--data", small_corpus, *FAST)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["epoch", "rate", "train", "valid", "seconds", "tokens/s"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert lines[-1].startswith("test perplexity")
    assert "parameters" in result.stderr
    assert "runs/small-corpus" in result.stderr
    assert "device      c" in result.stderr


def test_a_second_run_gets_a_directory_of_its_own(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    for _ in range(2):
        assert ptblm("train", "--data", small_corpus, *FAST).returncode == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "small-corpus",
        "small-corpus-2",
    }


def test_a_run_is_never_overwritten_unasked(
    ptblm: Ptblm, run_directory: Path, small_corpus: Path
) -> None:
    before = (run_directory / "result.json").read_bytes()
    arguments = ["train", "--data", small_corpus, "--run-dir", run_directory, *FAST]
    result = ptblm(*arguments)
    assert result.returncode == 2
    assert "not empty" in result.stderr
    assert "--overwrite" in result.stderr
    assert (run_directory / "result.json").read_bytes() == before
    assert ptblm(*arguments, "--overwrite", "--seed", "9").returncode == 0
    assert (run_directory / "result.json").read_bytes() != before


def test_overwrite_spares_what_is_no_run(ptblm: Ptblm, tmp_path: Path, small_corpus: Path) -> None:
    arguments = ["train", "--data", small_corpus, "--run-dir", small_corpus, "--overwrite"]
    result = ptblm(*arguments, *FAST)
    assert result.returncode == 2
    assert "not a run directory" in result.stderr
    assert (small_corpus / "train.txt").is_file()


def test_eval_of_a_run_repeats_its_test_perplexity(ptblm: Ptblm, run_directory: Path) -> None:
    result = json.loads((run_directory / "result.json").read_text())
    score = json.loads(ptblm("eval", run_directory, "--json").stdout)
    assert score["perplexity"] == pytest.approx(result["test_perplexity"], rel=1e-6)
    assert score["tokens"] == result["test_tokens"]
    assert score["unk_tokens"] == 8
    people = ptblm("eval", run_directory / "checkpoints" / "last.pt").stdout
    assert f"{result['test_perplexity']:.2f}" in people
    assert "perplexity without them" in people
    assert "protocol" in people


def test_eval_needs_the_checkpoint_and_the_text_alone(
    ptblm: Ptblm, run_directory: Path, small_corpus: Path, tmp_path: Path
) -> None:
    checkpoint = (run_directory / "checkpoints" / "last.pt").rename(tmp_path / "moved.pt")
    text = (small_corpus / "test.txt").read_text()
    by_split = json.loads(ptblm("eval", checkpoint, "--json").stdout)
    for path in small_corpus.iterdir():
        path.unlink()
    (tmp_path / "any.txt").write_text(text)
    by_file = json.loads(ptblm("eval", checkpoint, "--text", "any.txt", "--json").stdout)
    by_pipe = json.loads(ptblm("eval", checkpoint, "--text", "-", "--json", stdin=text).stdout)
    assert by_file["perplexity"] == by_pipe["perplexity"] == by_split["perplexity"]
    missing = ptblm("eval", checkpoint)
    assert missing.returncode == 3
    assert "test split is missing" in missing.stderr


def test_unknown_words_are_counted_and_reported(ptblm: Ptblm, run_directory: Path) -> None:
    text = "the zebra sat\nthe quagga ran\n"
    score = json.loads(ptblm("eval", run_directory, "--text", "-", "--json", stdin=text).stdout)
    assert score["unknown_words"] == 2
    assert score["unk_tokens"] == 2
    assert score["tokens"] == 7
    assert score["perplexity_without_unk"] < score["perplexity"]


def test_every_perplexity_on_the_sample_stands_beside_its_floor(
    ptblm: Ptblm, tmp_path: Path
) -> None:
    fast = ["--set", "model.hidden_size=16", "--set", "training.epochs=1"]
    result = ptblm("train", "--data", "sample", "--run-dir", "run", *fast)
    assert result.returncode == 0
    assert result.stdout.splitlines()[1].split() == ["floor", "10.16"]
    assert "(floor 10.16)" in result.stdout.splitlines()[-2]
    assert "(floor 10.31)" in result.stdout.splitlines()[-1]
    assert "(floor 10.31)" in ptblm("eval", "run").stdout
    assert json.loads(ptblm("eval", "run", "--json").stdout)["floor"] == pytest.approx(
        10.306, abs=1e-3
    )


def test_dry_run_says_what_a_run_would_take(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    result = ptblm("train", "--data", small_corpus, "--dry-run", *FAST)
    assert result.returncode == 0
    for word in ("parameters", "steps per epoch", "expected memory"):
        assert word in result.stdout
    assert not (tmp_path / "runs").exists()


def test_config_show_starts_an_experiment(ptblm: Ptblm, tmp_path: Path, small_corpus: Path) -> None:
    shown = ptblm("config", "show", "medium", "--set", "model.hidden_size=8").stdout
    (tmp_path / "mine.yaml").write_text(shown)
    result = ptblm("train", "-c", "mine.yaml", "--data", small_corpus, *FAST)
    assert result.returncode == 0, result.stderr
    assert "runs/mine-corpus" in result.stderr
    names = [line.split(":")[0] for line in ptblm("config", "list").stdout.splitlines()]
    assert names == ["small", "medium", "large", "test"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "--config", "smal"], 2, "did you mean 'small'?"),
        (["train", "--set", "model.hiden_size=3"], 2, "did you mean 'hidden_size'?"),
        (["train", "--set", "max_max_epoch=3"], 2, "'training.epochs'"),
        (["train", "--data", "nowhere"], 3, "no such directory"),
        (["train"], 3, "ptblm download-data"),
        (["train", "--data", "sample", "--device", "cuda:99"], 2, "cuda:99"),
        (["train", "--data", "sample", "--device", "tpu"], 2, "cuda:N"),
        (["train", "--data", "sample", "--device", "cpu", "--precision", "fp16"], 2, "CUDA"),
        (["train", "--data", "sample", "--precision", "fp8"], 2, "'fp32'"),
        (["train", "--data", "sample", "--set", "training.batch_size=5000"], 3, "or less"),
        (["train", "--resume", "nowhere"], 4, "no such run directory"),
        (["train", "--resume", "."], 4, "no checkpoint to resume from"),
        (["train", "--resume", ".", "--config", "small"], 2, "--resume knows"),
        (["train", "--data", "sample", "--run-dir", "/proc/x"], 2, "can't make the run directory"),
        (["eval", "nowhere"], 4, "no such checkpoint"),
        (["eval", "."], 4, "no checkpoint in this directory"),
        (["eval", "x", "--split", "dev"], 2, "train, valid and test"),
        (["eval", "x", "--text", "-", "--split", "test"], 2, "leave out"),
        (["download-data", "--from", "nowhere"], 3, "no such file"),
        (["download-data", "--url", "file:///etc/passwd"], 3, "only http and https"),
        (["download-data", "--url", "http://x/", "--from", "y"], 2, "give one"),
        (["config", "show", "hughe"], 2, "neither a shipped config nor a file"),
        (["tarin"], 2, "train"),
        (["train", "--sed", "3"], 2, "--se"),
    ],
)
def test_mistakes_get_a_clear_line_and_the_right_code(
    ptblm: Ptblm, arguments: list[str], code: int, message: str
) -> None:
    result = ptblm(*arguments)
    assert result.returncode == code, result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_where_an_error_came_from(ptblm: Ptblm) -> None:
    result = ptblm("--debug", "eval", "nowhere")
    assert result.returncode == 4
    assert "Traceback" in result.stderr


def test_a_perplexity_beyond_floats_is_null_in_json(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    wild = ["--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=1e30"]
    result = ptblm("train", "--data", small_corpus, "--run-dir", "run", *FAST, *wild)
    assert result.returncode == 0
    assert "test perplexity inf" in result.stdout
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test_perplexity"] is None
    assert json.loads(ptblm("eval", "run", "--json").stdout)["perplexity"] is None


def test_divergence_is_exit_5_and_spares_the_best(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    wild = ["--set", "training.learning_rate=1e38", "--set", "training.max_grad_norm=1e38"]
    result = ptblm("train", "--data", small_corpus, "--run-dir", "run", *FAST, *wild)
    assert result.returncode == 5
    assert "training diverged" in result.stderr
    assert not (tmp_path / "run" / "result.json").exists()
