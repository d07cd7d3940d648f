"""Errors: messages, exit codes, and files that must stay unchanged."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.run.lock import lock_run_dir
from tests import in_process
from tests.conftest import FAST, Ptblm, plain_environment


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
        (["train", "--data", "sample", "--precision", "fp8"], 2, "fp32"),
        (["train", "--data", "sample", "--set", "training.batch_size=5000"], 3, "or less"),
        (["train", "--resume", "nowhere"], 4, "no such run directory"),
        (["train", "--resume", "."], 4, "no checkpoint to resume from"),
        (["train", "--resume", ".", "--config", "small"], 2, "takes the config"),
        (
            ["train", "--data", "sample", "--run-dir", "/proc/x"],
            2,
            "cannot write to the run directory",
        ),
        (["eval", "nowhere"], 4, "no such checkpoint"),
        (["eval", "."], 4, "no checkpoint in this directory"),
        (["eval", "x", "--split", "dev"], 2, "train"),
        (["eval", "x", "--text", "-", "--split", "test"], 2, "hint: omit"),
        (["download-data", "--from", "nowhere"], 3, "no such file"),
        (["download-data", "--url", "file:///etc/passwd"], 3, "only http and https"),
        (["download-data", "--url", "http://x/", "--from", "y"], 2, "hint: pass one"),
        (["config", "show", "hughe"], 2, "neither a shipped config nor a file"),
        (["tarin"], 2, "train"),
        (["train", "--sed", "3"], 2, "--se"),
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_usage_errors_have_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    returned, errors, output = in_process.ptblm(*arguments)
    assert returned == code, errors
    assert message in errors
    assert in_process.without_notes(errors).startswith(("error: ", "Usage: "))
    assert "Traceback" not in errors
    assert output == ""


def test_debug_shows_a_traceback(ptblm: Ptblm) -> None:
    result = ptblm("--debug", "eval", "nowhere")
    assert result.returncode == 4
    assert "Traceback" in result.stderr


def test_control_characters_in_messages_are_escaped(ptblm: Ptblm) -> None:
    result = ptblm("eval", "\x1b[2Jnowhere\x9b")
    assert result.returncode == 4
    assert r"/\x1b[2Jnowhere\x9b" in result.stderr


def test_options_and_overrides_must_agree(ptblm: Ptblm) -> None:
    result = ptblm("train", "--seed", "4", "--set", "training.seed=3")
    assert result.returncode == 2
    assert "training.seed is set twice: to 4 (--seed) and to 3 (--set)" in result.stderr
    result = ptblm("train", "--seed", "-1")
    assert "--seed: training.seed: must be greater than or equal to 0, got -1" in result.stderr


def test_run_is_overwritten_only_on_request(
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
    after = json.loads((run_directory / "result.json").read_text())
    assert after["test_perplexity"] != json.loads(before)["test_perplexity"]


def test_overwrite_rejects_directories_without_a_run(ptblm: Ptblm, small_corpus: Path) -> None:
    arguments = ["train", "--data", small_corpus, "--run-dir", small_corpus, "--overwrite"]
    result = ptblm(*arguments, *FAST)
    assert result.returncode == 2
    assert "contains test.txt, so --overwrite does not delete it" in result.stderr
    assert (small_corpus / "train.txt").is_file()


def test_overwrite_rejects_directories_that_resemble_a_run(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("learning_rate: 3\n")
    arguments = ["train", "--data", small_corpus, *FAST, "--run-dir", project, "--overwrite"]
    assert "does not contain a run of ptblm" in ptblm(*arguments).stderr
    (project / "thesis.tex").write_text("years of work")
    assert "contains thesis.tex" in ptblm(*arguments).stderr
    assert "contains thesis.tex" in ptblm(*arguments, "--dry-run").stderr
    assert (project / "thesis.tex").read_text() == "years of work"
    assert (project / "config.yaml").is_file()


def test_divergence_is_detected_before_a_checkpoint_is_saved(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    """Weights of 1e30 give a finite loss, whose perplexity overflows."""
    wild = ["--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=1e30"]
    result = ptblm("train", "--data", small_corpus, "--run-dir", "run", *FAST, *wild)
    assert result.returncode == 5
    assert "training diverged" in result.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["grad_norm"] is None


def test_divergence_exits_with_5_and_keeps_checkpoints(ptblm: Ptblm, run_directory: Path) -> None:
    last = run_directory / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    checkpoint.model["head.weight"][:] = 1e38  # finite, but too large
    checkpoint.model["head.weight"][::2] *= -1
    save_checkpoint(last, checkpoint)
    ptblm("train", "--resume", run_directory, "--set", "training.epochs=3")  # saves the config
    before = {path: path.read_bytes() for path in last.parent.iterdir()}
    result = ptblm("train", "--resume", run_directory, "--set", "training.epochs=3")
    assert result.returncode == 5
    assert "training diverged: loss " in result.stderr
    assert "epoch 3, batch 1" in result.stderr
    assert json.loads((run_directory / "diverged.json").read_text())["learning_rate"] == 1.0
    assert {path: path.read_bytes() for path in last.parent.iterdir()} == before
    damaged = ptblm("eval", run_directory)
    assert damaged.returncode == 4
    assert "no finite perplexity" in damaged.stderr


def test_run_directory_is_locked(ptblm: Ptblm, run_directory: Path, small_corpus: Path) -> None:
    with lock_run_dir(run_directory):
        for arguments in (
            ["--resume", run_directory],
            ["--data", small_corpus, *FAST, "--run-dir", run_directory, "--overwrite"],
        ):
            result = ptblm("train", *arguments)
            assert result.returncode == 2
            assert "the run directory is in use by" in result.stderr
    # The file that a killed process leaves does not lock the directory.
    (run_directory / "lock").touch()
    assert ptblm("train", "--resume", run_directory).returncode == 0


def test_out_of_memory_is_an_error_with_a_hint(ptblm: Ptblm, small_corpus: Path) -> None:
    result = ptblm("train", "--data", small_corpus, "--set", "model.hidden_size=1000000", *FAST[2:])
    assert result.returncode == 2
    assert "out of memory with model.hidden_size 1,000,000" in result.stderr


def test_checkpoint_with_a_wrong_size_allocates_no_memory(
    ptblm: Ptblm, run_directory: Path
) -> None:
    last = run_directory / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    checkpoint.config["model"]["hidden_size"] = 900_000
    save_checkpoint(last, checkpoint)
    for arguments in (["eval", run_directory], ["train", "--resume", run_directory]):
        result = ptblm(*arguments)
        assert result.returncode == 4
        assert "does not fit its own config" in result.stderr


@pytest.mark.parametrize("limit", [0, 1, 3, 30, 100, 400])
def test_full_disk_is_reported_as_an_error(limit: int, tmp_path: Path, small_corpus: Path) -> None:
    """The size of files is limited to `limit` KiB, as if the disk were full."""
    command = [sys.executable, "-m", "ptblm", "train", "--data", str(small_corpus)]
    command += ["--run-dir", "run"]
    more = ["--set", "run.log_every=1", "--set", "model.hidden_size=40"]
    result = subprocess.run(
        [*command, *FAST[2:], *more],
        cwd=tmp_path,
        env=plain_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit * 1024, limit * 1024)),
    )
    assert "Traceback" not in result.stderr
    expected = {0: 2, 1: 2, 3: 2}.get(limit, 4 if limit < 400 else 0)
    assert result.returncode == expected, result.stderr
    if expected == 4:
        assert "could not be saved: File too large" in result.stderr
    for path in (tmp_path / "run").rglob("*.safetensors"):
        load_checkpoint(path)
    for line in (tmp_path / "run").glob("metrics.jsonl"):
        assert all(json.loads(text) for text in line.read_text().splitlines())
