"""The command line in a new process: help, output, exit codes, completion."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import FAST, SHIPPED_CONFIGS, Ptblm, plain_environment


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


def test_run_directory_contains_documented_files(run_directory: Path) -> None:
    files = {str(path.relative_to(run_directory)) for path in run_directory.rglob("*.*")}
    assert files == {
        "config.yaml",
        "environment.json",
        "metrics.jsonl",
        "result.json",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
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


def test_results_on_stdout_and_messages_on_stderr(ptblm: Ptblm, small_corpus: Path) -> None:
    result = ptblm("train", "--data", small_corpus, *FAST)
    lines = result.stdout.splitlines()
    columns = "epoch rate train valid seconds tokens/s valid bits"
    assert " ".join(lines[0].split()) == columns
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert any(line.startswith("test perplexity") for line in lines)
    assert any(line.startswith("test bits per word without <eos>") for line in lines)
    assert "parameters" in result.stderr
    assert "runs/small-corpus" in result.stderr
    assert "device      c" in result.stderr


def test_second_run_gets_a_new_directory(ptblm: Ptblm, tmp_path: Path, small_corpus: Path) -> None:
    for _ in range(2):
        assert ptblm("train", "--data", small_corpus, *FAST).returncode == 0
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        "small-corpus",
        "small-corpus-2",
    }


def test_eval_reproduces_the_test_perplexity_of_the_run(ptblm: Ptblm, run_directory: Path) -> None:
    result = json.loads((run_directory / "result.json").read_text())
    score = json.loads(ptblm("eval", run_directory, "--json").stdout)
    assert score["perplexity"] == pytest.approx(result["test_perplexity"], rel=1e-6)
    assert score["tokens"] == result["test_tokens"]
    assert score["unk_tokens"] == 8
    text = ptblm("eval", run_directory / "checkpoints" / "last.safetensors").stdout
    assert f"{result['test_perplexity']:.2f}" in text
    assert "perplexity of the " in text
    assert "protocol" in text


def test_eval_needs_only_the_checkpoint_and_the_text(
    ptblm: Ptblm, small_corpus: Path, tmp_path: Path
) -> None:
    train = ["train", "--data", small_corpus, "--run-dir", "run", *FAST]
    assert ptblm(*train).returncode == 0
    checkpoint = (tmp_path / "run" / "checkpoints" / "last.safetensors").rename(
        tmp_path / "moved.safetensors"
    )
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


def test_sample_perplexities_are_printed_with_entropy_bounds(ptblm: Ptblm, tmp_path: Path) -> None:
    fast = ["--set", "model.hidden_size=16", "--set", "training.epochs=1"]
    result = ptblm("train", "--data", "sample", "--run-dir", "run", *fast)
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[1].split() == ["bound", "10.16", "3.3442"]
    valid, test = [line for line in lines if line.startswith(("valid perpl", "test perpl"))]
    assert "(entropy bound 10.16)" in valid
    assert "(entropy bound 10.31)" in test
    assert "(entropy bound 10.31)" in ptblm("eval", "run").stdout
    score = json.loads(ptblm("eval", "run", "--json").stdout)
    assert score["entropy_bound"] == pytest.approx(10.306, abs=1e-3)


def test_dry_run_reports_time_and_memory_and_writes_nothing(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    result = ptblm("train", "--data", small_corpus, "--dry-run", *FAST)
    assert result.returncode == 0
    for word in ("parameters", "steps per epoch", "estimated time", "peak memory"):
        assert word in result.stdout
    assert not (tmp_path / "runs").exists()


def test_shown_config_begins_with_its_source(ptblm: Ptblm, tmp_path: Path) -> None:
    shown = ptblm("config", "show", "awd-lstm").stdout
    assert shown.startswith("# awd-lstm: three LSTM layers with DropConnect. 24,210,800 parameters")
    assert "# Source: Merity et al. 2018, arXiv:1708.02182" in shown
    (tmp_path / "mine.yaml").write_text(shown)
    again = ptblm("config", "show", "mine.yaml").stdout
    assert shown.endswith(f"\n\n{again}")
    changed = ptblm("config", "show", "awd-lstm", "--set", "training.epochs=9").stdout
    assert changed.startswith("# The corpus, ")  # the first section, without the source


def test_output_of_config_show_is_a_usable_config(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    shown = ptblm("config", "show", "medium", "--set", "model.hidden_size=8").stdout
    (tmp_path / "mine.yaml").write_text(shown)
    result = ptblm("train", "-c", "mine.yaml", "--data", small_corpus, *FAST)
    assert result.returncode == 0, result.stderr
    assert "runs/mine-corpus" in result.stderr
    names = [line.split(":")[0] for line in ptblm("config", "list").stdout.splitlines()]
    assert names == SHIPPED_CONFIGS


def test_shell_completes_configs_and_runs(ptblm: Ptblm, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "runs" / "small-ptb").mkdir(parents=True)
    for line, expected in [
        ("ptblm train --config m", {"medium", "medium-tied", "mine.yaml", "mogrifier"}),
        ("ptblm train --resume r", {"runs/small-ptb"}),
        ("ptblm eval r", {"runs/small-ptb"}),
        ("ptblm config show la", {"large", "large-tied"}),
        ("ptblm eval x --split t", {"train", "test"}),
    ]:
        words = line.split()
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                "import sys; sys.argv[0] = 'ptblm'; import ptblm.cli as c; c.main()",
            ],
            cwd=tmp_path,
            env={
                **plain_environment(),
                "_PTBLM_COMPLETE": "complete_bash",
                "COMP_WORDS": line,
                "COMP_CWORD": str(len(words) - 1),
            },
            capture_output=True,
            text=True,
        )
        assert set(result.stdout.split()) == expected, (line, result.stderr)
