"""What a person meets: exit codes, errors, help, in a fresh process as they would start it."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
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
    assert "holds test.txt, so --overwrite leaves it alone" in result.stderr
    assert (small_corpus / "train.txt").is_file()


def test_eval_of_a_run_repeats_its_test_perplexity(ptblm: Ptblm, run_directory: Path) -> None:
    result = json.loads((run_directory / "result.json").read_text())
    score = json.loads(ptblm("eval", run_directory, "--json").stdout)
    assert score["perplexity"] == pytest.approx(result["test_perplexity"], rel=1e-6)
    assert score["tokens"] == result["test_tokens"]
    assert score["unk_tokens"] == 8
    people = ptblm("eval", run_directory / "checkpoints" / "last.safetensors").stdout
    assert f"{result['test_perplexity']:.2f}" in people
    assert "perplexity without them" in people
    assert "protocol" in people


def test_eval_needs_the_checkpoint_and_the_text_alone(
    ptblm: Ptblm, run_directory: Path, small_corpus: Path, tmp_path: Path
) -> None:
    checkpoint = (run_directory / "checkpoints" / "last.safetensors").rename(
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
    assert names == ["small", "medium", "large", "char", "test"]


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
        (["train", "--resume", ".", "--config", "small"], 2, "--resume knows"),
        (["train", "--data", "sample", "--run-dir", "/proc/x"], 2, "can't make the run directory"),
        (["eval", "nowhere"], 4, "no such checkpoint"),
        (["eval", "."], 4, "no checkpoint in this directory"),
        (["eval", "x", "--split", "dev"], 2, "train"),
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


def test_divergence_by_the_rate_is_found_before_anything_is_saved(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    """Weights of 1e30 give a finite loss, and a perplexity beyond all numbers."""
    wild = ["--set", "training.learning_rate=1e30", "--set", "training.max_grad_norm=1e30"]
    result = ptblm("train", "--data", small_corpus, "--run-dir", "run", *FAST, *wild)
    assert result.returncode == 5
    assert "training diverged" in result.stderr
    assert not (tmp_path / "run" / "result.json").exists()
    assert not (tmp_path / "run" / "checkpoints" / "best.safetensors").exists()
    assert json.loads((tmp_path / "run" / "diverged.json").read_text())["grad_norm"] is None


def test_divergence_is_exit_5_and_spares_the_checkpoints(ptblm: Ptblm, run_directory: Path) -> None:
    last = run_directory / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    checkpoint.model["head.bias"][2] = float("nan")
    save_checkpoint(last, checkpoint)
    before = {path: path.read_bytes() for path in last.parent.iterdir()}
    result = ptblm("train", "--resume", run_directory, "--set", "training.epochs=3")
    assert result.returncode == 5
    assert "training diverged: loss nan per token" in result.stderr
    assert "epoch 3, batch 1" in result.stderr
    assert json.loads((run_directory / "diverged.json").read_text())["learning_rate"] == 1.0
    assert {path: path.read_bytes() for path in last.parent.iterdir()} == before
    damaged = ptblm("eval", run_directory)
    assert damaged.returncode == 4
    assert "no finite likelihood" in damaged.stderr


def test_flags_and_overrides_must_agree(ptblm: Ptblm) -> None:
    result = ptblm("train", "--seed", "4", "--set", "training.seed=3")
    assert result.returncode == 2
    assert "--set training.seed=3: --seed says otherwise" in result.stderr
    result = ptblm("train", "--seed", "-1")
    assert "--seed: training.seed: must be greater than or equal to 0, got -1" in result.stderr


def test_overwrite_spares_a_directory_that_only_looks_like_a_run(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.yaml").write_text("learning_rate: 3\n")
    arguments = ["train", "--data", small_corpus, *FAST, "--run-dir", project, "--overwrite"]
    assert "holds no run of ptblm's" in ptblm(*arguments).stderr
    (project / "thesis.tex").write_text("years of work")
    assert "holds thesis.tex" in ptblm(*arguments).stderr
    assert "holds thesis.tex" in ptblm(*arguments, "--dry-run").stderr
    assert (project / "thesis.tex").read_text() == "years of work"
    assert (project / "config.yaml").is_file()


def test_a_reader_who_leaves_does_not_end_the_run(
    ptblm: Ptblm, tmp_path: Path, small_corpus: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "ptblm", "train", "--data", small_corpus, "--run-dir", "run", *FAST],
        cwd=tmp_path,
        env=plain_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 0, errors
    assert "stdout is gone" in errors
    assert (tmp_path / "run" / "result.json").is_file()


@pytest.mark.parametrize("limit", [0, 1, 3, 30, 100, 400])
def test_a_full_disk_is_no_bug(limit: int, tmp_path: Path, small_corpus: Path) -> None:
    """Files may have so many blocks of 1,024 bytes; whatever was refused, it is said plainly."""
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


def test_two_runs_do_not_share_a_directory(
    ptblm: Ptblm, run_directory: Path, small_corpus: Path
) -> None:
    with locked(run_directory):
        for arguments in (
            ["--resume", run_directory],
            ["--data", small_corpus, *FAST, "--run-dir", run_directory, "--overwrite"],
        ):
            result = ptblm("train", *arguments)
            assert result.returncode == 2
            assert f"in use by process {os.getpid()}" in result.stderr
    # The lock of a process that died is none.
    (run_directory / "lock").write_text("999999\n")
    assert ptblm("train", "--resume", run_directory).returncode == 0
    assert not (run_directory / "lock").exists()


def test_too_large_a_model_is_a_clear_line(ptblm: Ptblm, small_corpus: Path) -> None:
    result = ptblm("train", "--data", small_corpus, "--set", "model.hidden_size=1000000", *FAST[2:])
    assert result.returncode == 2
    assert "out of memory with model.hidden_size 1,000,000" in result.stderr


def test_a_checkpoint_that_declares_a_large_model_spends_no_memory(
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


def test_output_that_nobody_reads_or_that_has_no_room(ptblm: Ptblm) -> None:
    command = [sys.executable, "-m", "ptblm", "config", "show", "small"]
    with subprocess.Popen(
        command, env=plain_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, env=plain_environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert result.returncode == 2
    assert result.stderr == "error: can't write to standard output: No space left on device\n"


def test_the_shell_completes_configs_and_runs(ptblm: Ptblm, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "runs" / "small-ptb").mkdir(parents=True)
    for line, expected in [
        ("ptblm train --config m", {"medium", "mine.yaml"}),
        ("ptblm train --resume r", {"runs/small-ptb"}),
        ("ptblm eval r", {"runs/small-ptb"}),
        ("ptblm config show la", {"large"}),
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
