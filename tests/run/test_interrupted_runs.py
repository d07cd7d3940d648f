"""Going on with a run in spite of what happened to its files, or happens beside it."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from ptblm.lock import locked

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.config.loading import load_config
from ptblm.config.schema import Config
from ptblm.run import train
from ptblm.run.directory import new_run
from ptblm.run.setup import RunComponents, setup_run
from tests.conftest import REPOSITORY, Ptblm, plain_environment

TINY = ["--data", "sample", "--set", "model.hidden_size=4", "--set", "training.batch_size=50"]
TINY += ["--set", "training.epochs=1"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch of 39 steps."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    command = [sys.executable, "-m", "ptblm", "train", *TINY, "--run-dir", str(directory)]
    subprocess.run(command, env=plain_environment(), capture_output=True, check=True)
    return directory


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of that run, to do harm to."""
    subprocess.run(["cp", "-r", str(finished), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


# --- divergence ---


def test_weights_that_are_not_finite_are_never_saved(run: Path, ptblm: Ptblm) -> None:
    """A step sees only the rows of its own words: the loss is finite, a weight is not."""
    last = run / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    rare = len(checkpoint.vocabulary["tokens"]) - 1
    embedding = next(weights for name, weights in checkpoint.model.items() if "embedding" in name)
    embedding[rare, 0] = float("nan")
    save_checkpoint(last, checkpoint)
    before = bytes_of(last.parent)
    more = ["--set", "training.epochs=2", "--set", "run.checkpoint_every=1 steps"]
    result = ptblm("train", "--resume", run, *more, "--set", "run.log_every=1")
    assert result.returncode == 5
    assert "training diverged" in result.stderr
    assert bytes_of(last.parent) == before
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert (steps[-1]["kind"], steps[-1]["step"]) == ("step", 40)  # the step itself was good
    assert (run / "diverged.json").is_file()


def test_a_kill_just_after_a_diverged_run_goes_on_leaves_it_able_to(
    run: Path, ptblm: Ptblm
) -> None:
    """The rate that was changed stays changed, though nothing says any more that it diverged."""
    (run / "diverged.json").write_text("{}")
    more = ["--set", "training.epochs=2", "--set", "training.learning_rate=0.1"]
    code = (
        "import os, signal, sys\n"
        "from ptblm.cli import main\n"
        "from ptblm.run import train\n"
        "train.record_resumption = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"sys.argv = ['ptblm', 'train', '--resume', {str(run)!r}, *{more!r}]\n"
        "main()"
    )
    killed = subprocess.run([sys.executable, "-c", code], env=plain_environment())
    assert killed.returncode == -signal.SIGKILL
    assert not (run / "diverged.json").exists()
    for again in (more, []):
        result = ptblm("train", "--resume", run, *again)
        assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[-2]["epoch"] == 2
    assert records[-2]["learning_rate"] == 0.1


# --- other circumstances ---


@pytest.mark.parametrize("key", ["ptblm", "torch", "device"])
def test_what_may_change_the_last_bit_is_said(key: str, run: Path, ptblm: Ptblm) -> None:
    last = run / "checkpoints" / "last.safetensors"
    checkpoint = load_checkpoint(last)
    assert "may not end bit for bit" not in ptblm("train", "--resume", run).stderr
    save_checkpoint(last, replace(checkpoint, versions={**checkpoint.versions, key: "another"}))
    result = ptblm("train", "--resume", run)
    assert result.returncode == 0, result.stderr
    assert "was 'another' and is " in result.stderr
    assert "the run may not end bit for bit as it would have" in result.stderr


# --- files of the run's directory ---


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"5",
        b"null",
        b'{"resumed": 5}',
        b'{"resumed": "once"}',
        b'{"resumed": {}}',
        b'{"versions": 5}',
        b"not JSON",
        b"\xff\xfe\x00",
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_an_odd_environment_file_stops_nothing(
    content: bytes, run: Path, in_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "environment.json"
    path.write_bytes(content)
    train.resume_run(run, lambda config: config, ["ptblm", "train"])
    environment = json.loads(path.read_text())
    assert [entry["command"] for entry in environment["resumed"]] == [["ptblm", "train"]]


def test_resumptions_are_added_up(run: Path, ptblm: Ptblm) -> None:
    before = json.loads((run / "environment.json").read_text())
    for count in (1, 2):
        assert ptblm("train", "--resume", run).returncode == 0
        environment = json.loads((run / "environment.json").read_text())
        assert len(environment.pop("resumed")) == count
        assert environment == before


def test_an_edit_of_the_config_file_is_told_and_never_taken(run: Path, ptblm: Ptblm) -> None:
    path = run / "config.yaml"
    written = path.read_text()
    for edited, told in [
        (written.replace("epochs: 1", "epochs: 7"), "had training.epochs=7;"),
        ("[", "had other words;"),
    ]:
        path.write_text(edited)
        result = ptblm("train", "--resume", run)
        assert result.returncode == 0, result.stderr
        notes = [line for line in result.stderr.splitlines() if line.startswith("note: ")]
        assert len(notes) == 1
        assert f"{path} {told}" in notes[0]
        assert "--set" in notes[0]
        assert path.read_text() == written
        assert load_checkpoint(run / "checkpoints" / "last.safetensors").trained() == (1, 39)


def test_a_config_file_that_says_the_same_is_left_alone(run: Path, ptblm: Ptblm) -> None:
    path = run / "config.yaml"
    commented = "# my best run\n" + path.read_text()
    path.write_text(commented)
    result = ptblm("train", "--resume", run)
    assert "note: " not in result.stderr
    assert path.read_text() == commented
    # What --set changes is no edit of its owner's, but now the comment goes.
    result = ptblm("train", "--resume", run, "--set", "run.log_every=7")
    assert "config.yaml had other words" in result.stderr
    assert load_config(str(path)).run.log_every == 7
    path.unlink()
    result = ptblm("train", "--resume", run, "--set", "run.log_every=8")
    assert "note: " not in result.stderr
    assert load_config(str(path)).run.log_every == 8


# --- `--resume auto` ---


def test_two_that_resume_auto_never_both_begin(
    tmp_path: Path, ptblm: Ptblm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other comes while the first loads, after it found that there is nothing yet."""
    directory = tmp_path / "run"
    assert ptblm("train", *TINY, "--run-dir", directory).returncode == 0
    for path in (directory / "checkpoints").iterdir():
        path.unlink()
    for name in ("result.json", "metrics.jsonl"):
        (directory / name).unlink()  # now it is a run that was killed before its first checkpoint
    others = []

    def assemble_slowly(config: Config) -> RunComponents:
        others.append(ptblm("train", *TINY, "--resume", "auto", "--run-dir", directory))
        return setup_run(config)

    monkeypatch.setattr(train, "setup_run", assemble_slowly)
    config = load_config("small", [text for text in TINY if "=" in text] + ["data.path=sample"])
    train.start_or_resume_run(config, directory, ["ptblm", "first"])
    (other,) = others
    assert other.returncode == 2
    assert f"in use by process {os.getpid()}" in other.stderr
    assert json.loads((directory / "environment.json").read_text())["command"] == ["ptblm", "first"]
    assert load_checkpoint(directory / "checkpoints" / "last.safetensors").trained() == (1, 39)


def test_resume_auto_that_can_not_begin_leaves_nothing(tmp_path: Path, ptblm: Ptblm) -> None:
    arguments = ["train", "--resume", "auto", "--run-dir", tmp_path / "run"]
    assert ptblm(*arguments, "--data", "nowhere").returncode == 3
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    result = ptblm(*arguments, *TINY)
    assert result.returncode == 2
    assert "holds thesis.tex" in result.stderr
    assert bytes_of(tmp_path / "run") == {"thesis.tex": b"years of work"}
    with locked(tmp_path / "run"):
        assert "in use by process" in ptblm(*arguments, *TINY).stderr


def test_a_deletion_that_was_killed_half_way_can_be_repeated(run: Path, ptblm: Ptblm) -> None:
    """Wherever --overwrite or --resume auto was killed while it made room for a new run."""
    (run / "tensorboard").mkdir()
    (run / "tensorboard" / "events.1").write_text("")
    code = (
        "import os, pathlib, signal, sys\n"
        "from ptblm.run.directory import RunDirectory, clear\n"
        "left = [int(sys.argv[2])]\n"
        "def counted(really):\n"
        "    def remove(*arguments, **options):\n"
        "        if left[0] == 0:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        left[0] -= 1\n"
        "        really(*arguments, **options)\n"
        "    return remove\n"
        "pathlib.Path.unlink = counted(pathlib.Path.unlink)\n"
        "pathlib.Path.rmdir = counted(pathlib.Path.rmdir)\n"
        "clear(RunDirectory(pathlib.Path(sys.argv[1])))"
    )
    removals = 8
    for done in range(removals + 1):
        copy = run.with_name(f"copy-{done}")
        subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
        command = [sys.executable, "-c", code, str(copy), str(done)]
        killed = subprocess.run(command, env={**plain_environment(), "PYTHONPATH": str(REPOSITORY)})
        assert killed.returncode == (-signal.SIGKILL if done < removals else 0)
        with new_run(copy, "run", overwrite=True) as directory:
            assert sorted(path.name for path in copy.iterdir()) == ["checkpoints", "lock"]
            assert directory.all_checkpoints() == []
