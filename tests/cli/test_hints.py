"""Every command that a message suggests can be executed as printed."""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ptblm.checkpoint.format import load_checkpoint, save_checkpoint
from ptblm.cli.commands import app
from ptblm.paths import shell_join
from ptblm.reporting.console import ConsoleReporter
from tests.conftest import FAST, REPOSITORY
from tests.in_process import ptblm
from tests.run.helpers import flip_bit, last_checkpoint

COMMANDS = {command.name for command in app.registered_commands} | {
    group.name for group in app.registered_groups
}
COMMAND = re.compile(rf"ptblm (?:{'|'.join(map(str, COMMANDS))})\b[^`;\n]*")


@pytest.fixture
def run(finished_run: Path, in_directory: Path) -> Path:
    """A finished run whose path needs quotes, relative to the current directory."""
    shutil.copytree(finished_run, in_directory / "my runs" / "it's $1")
    return Path("my runs") / "it's $1"


def suggestions(text: str) -> Iterator[list[str]]:
    """Yields the arguments of each command in a message."""
    for command in COMMAND.findall(text):
        yield shlex.split(command)[1:]


def fail(*arguments: object) -> str:
    """Runs a command that must fail; returns its messages."""
    code, errors, _ = ptblm(*arguments)
    assert code != 0
    return errors


def follow(text: str) -> list[tuple[int, str]]:
    """Runs each command in a message; returns their exit codes and standard errors."""
    results = [ptblm(*arguments) for arguments in suggestions(text)]
    assert results, text
    return [(code, errors) for code, errors, _ in results]


def test_command_after_a_run(run: Path, small_corpus: Path) -> None:
    code, errors, _ = ptblm("train", "--data", small_corpus, "--run-dir", "a b", *FAST)
    assert code == 0
    assert "next: ptblm eval 'a b'" in errors
    assert all(code == 0 for code, _ in follow(errors))


def test_command_of_a_stopped_run(
    in_directory: Path, small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object, __: object) -> None:
        monkeypatch.undo()
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(ConsoleReporter, "write", stop)
    code, errors, _ = ptblm("train", "--data", small_corpus, "--run-dir", "a b", *FAST)
    assert code == 143
    assert follow(errors)[0][0] == 0
    assert (in_directory / "a b" / "result.json").is_file()


def test_command_of_a_diverged_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a divergence, the rate may change, and the run continues."""
    checkpoint = load_checkpoint(last_checkpoint(run))
    sound = checkpoint.model["head.bias"].clone()
    checkpoint.model["head.bias"][2] = float("nan")
    save_checkpoint(last_checkpoint(run), checkpoint)
    with monkeypatch.context() as patch:
        patch.setattr("ptblm.run.load_model.check_finite_tensors", lambda *_: None)
        patch.setattr("ptblm.run.verify.check_finite_tensors", lambda *_: None)
        errors = fail("train", "--resume", run, "--set", "training.epochs=3")
    assert "--set training.learning_rate=0.5" in errors
    checkpoint.model["head.bias"][:] = sound
    save_checkpoint(last_checkpoint(run), checkpoint)
    assert follow(errors)[0][0] == 0


def test_commands_for_a_checkpoint_that_is_not_the_last(run: Path) -> None:
    errors = fail("train", "--resume", run / "checkpoints" / "best.safetensors")
    assert [code for code, _ in follow(errors)] == [0, 0]


@pytest.mark.parametrize("name", ["config.yaml", "result.json"])
def test_command_for_a_file_of_a_run(run: Path, name: str) -> None:
    assert follow(fail("train", "--resume", run / name))[0][0] == 0


def test_commands_for_a_directory_in_use(run: Path, small_corpus: Path) -> None:
    new = ["train", "--data", small_corpus, "--run-dir", run, *FAST]
    errors = fail(*new)
    resume = re.search(r"pass (--resume .*) to resume the run", errors)
    assert resume is not None
    assert ptblm("train", *shlex.split(resume[1]))[0] == 0
    assert "--overwrite to delete the run" in errors
    assert ptblm(*new, "--overwrite")[0] == 0


def test_command_for_a_run_that_lost_its_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")
    for arguments in (["--resume", run], ["--resume", "auto", "--run-dir", run]):
        errors = fail("train", *arguments)
        assert "has results but no checkpoint" in errors
    assert follow(errors)[0][0] == 0
    assert last_checkpoint(run).is_file()


def test_command_for_a_missing_run(run: Path, in_directory: Path) -> None:
    run.rename(in_directory / "runs")
    shutil.copytree("runs", "x/small-ptb")
    Path("runs").rename("old")
    Path("x").rename("runs")
    assert follow(fail("train", "--resume", "small-ptb"))[0][0] == 0


def test_command_for_a_damaged_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_bit(last_checkpoint(run))
    directory = last_checkpoint(run).absolute().parent
    for path in (run, "last.safetensors"):  # the second one in its directory
        ((code, errors),) = follow(fail("eval", path))
        assert (code, errors) == (4, "")  # the verdicts are on stdout
        monkeypatch.chdir(directory)


def test_command_for_weights_that_are_not_finite(run: Path) -> None:
    for value, problem, code in (
        (float("nan"), "not finite", 4),
        (1e38, "no finite perplexity", 0),
    ):
        checkpoint = load_checkpoint(last_checkpoint(run))
        checkpoint.model["head.weight"][:] = value
        checkpoint.model["head.weight"][::2] *= -1
        save_checkpoint(last_checkpoint(run), checkpoint)
        errors = fail("eval", run)
        assert problem in errors
        assert follow(errors)[0][0] == code


def test_config_of_a_run_is_named(run: Path) -> None:
    errors = fail("train", "--config", run, "--dry-run")
    path = errors.rpartition("the config of this run is ")[2].strip()
    assert ptblm("train", "--config", path, "--dry-run")[0] == 0


@pytest.mark.parametrize(
    "typed",
    [
        "train --data sample --dry-run --epochs 3",
        "train --data sample --dry-run --lr 0.1 --nhid 8",
        "train --data sample --dry-run --beta1 0.5",
        "train --data sample --dry-run --rnn_type GRU",
        "train --data sample --dry-run --no-cuda",
        "train --data sample --dry-run --save_every 50",
        "train --data sample --dry-run --sed 3",
        "train --data sample --dry-run small",
    ],
)
@pytest.mark.usefixtures("in_directory")
def test_options_for_wrong_ones(typed: str) -> None:
    hint = fail(*typed.split()).rpartition("hint: ")[2]
    options = hint.strip().removeprefix("pass ").removeprefix("did you mean ").removesuffix("?")
    right = typed[: typed.index("--dry-run") + len("--dry-run")]
    code, errors, _ = ptblm(*right.split(), *shlex.split(options))
    assert code == 0, errors


@pytest.mark.parametrize("typed", ["", "train --foo", "eval", "trian", "config shwo", "train x y"])
@pytest.mark.usefixtures("in_directory")
def test_commands_for_help(typed: str) -> None:
    errors = fail(*typed.split())
    for command in re.findall(r"see `ptblm(.*)`", errors):
        assert ptblm(*command.split())[0] == 0
    assert typed == "" or "see `ptblm" in errors


@pytest.mark.parametrize("text", ["a b", "it's", "$HOME", "é", "new\nline", "\x1b[2J", "a\udcffb"])
def test_bash_reads_a_printed_word_as_it_was(text: str) -> None:
    command = shell_join(["printf", "%s", text])
    assert command.isprintable()
    printed = subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout
    assert printed == os.fsencode(text)


def test_commands_in_messages_exist() -> None:
    """Each `ptblm WORD` in the strings of the package is a command."""
    for path in (REPOSITORY / "ptblm").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = re.findall(r"`ptblm ([a-z-]+)", node.value)
                assert set(words) <= {*COMMANDS, "--help"}, path
