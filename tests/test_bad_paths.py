"""Every path that the system rejects is one message with the exit code of its command."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from ptblm.cli.commands import app
from tests.conftest import plain_environment, write_small_corpus
from tests.in_process import ptblm
from tests.run.sweep_files import write_sweep

NOBODY = 65534
TINY = ["--config", "test", "--set", "model.hidden_size=2", "--set", "training.batch_size=4"]
SAMPLE = [*TINY, "--data", "sample"]
BPE = ["train", *SAMPLE, "--tokenizer", "bpe"]

# Commands with a path, and the exit code if the path cannot be used.
COMMANDS: dict[str, tuple[list[str], int]] = {
    "eval": (["eval", "PATH"], 4),
    "show": (["checkpoint", "show", "PATH"], 4),
    "verify": (["checkpoint", "verify", "PATH"], 4),
    "resume": (["train", "--resume", "PATH"], 4),
    "init": (["train", "--init", "PATH", "--data", "sample"], 4),
    "vocabulary": (["train", *SAMPLE, "--set", "data.vocabulary.file=PATH", "--dry-run"], 3),
    "tokenizer": ([*BPE, "--set", "data.vocabulary.file=PATH", "--dry-run"], 3),
    "config": (["train", "--config", "PATH"], 2),
    "config show": (["config", "show", "PATH"], 2),
    "data": (["train", *TINY, "--data", "PATH", "--dry-run"], 3),
    "run dir": (["train", *SAMPLE, "--run-dir", "PATH"], 2),
    "overwrite": (["train", *SAMPLE, "--run-dir", "PATH", "--overwrite"], 2),
    "resume auto": (["train", *TINY, "--resume", "auto", "--run-dir", "PATH"], 2),
    "eval data": (["eval", "RUN", "--data", "PATH"], 3),
    "eval text": (["eval", "RUN", "--text", "PATH"], 3),
    "ensemble": (["eval", "RUN", "PATH"], 4),
    "settings": (["eval", "RUN", "--settings", "PATH"], 2),
    "tune-eval": (["tune-eval", "PATH"], 4),
    "tune-eval to": (["tune-eval", "RUN", "--data", "sample", "--max-tokens=9", "--to", "PATH"], 2),
    "score": (["score", "RUN", "PATH"], 3),
    "score table": (["score", "RUN", "PATH", "--table"], 3),
    "states": (["score", "RUN", "HERE/vocab.txt", "--states", "PATH"], 2),
    "generate": (["generate", "RUN", "--prompt-file", "PATH"], 3),
    "pairs": (["pairs", "RUN", "PATH"], 3),
    "predictions": (["pairs", "RUN", "HERE/pairs.tsv", "--predictions", "PATH"], 2),
    "rescore": (["rescore", "RUN", "PATH", "--format", "kaldi"], 3),
    "rescore costs": (["rescore", "RUN", "HERE/nbest", "--format", "kaldi", "--costs", "PATH"], 3),
    "rescore to": (["rescore", "RUN", "HERE/list", "--format", "srilm", "--to", "PATH"], 2),
    "tune": (["rescore", "RUN", "HERE/nbest", "--format", "kaldi", "--tune", "PATH"], 3),
    "mix": (["rescore", "RUN", "HERE/nbest", "--format", "kaldi", "--mix", "PATH"], 3),
    "export": (["export", "PATH", "--to", "safetensors"], 4),
    "export to": (["export", "RUN", "--to", "safetensors", "-o", "PATH/x"], 2),
    "report": (["report", "PATH"], 4),
    "report to": (["report", "RUN", "--no-analysis", "--to", "PATH/r.html"], 2),
    "compare": (["compare", "PATH"], 4),
    "compare with": (["compare", "RUN", "--against", "PATH"], 4),
    "plot": (["plot", "PATH"], 4),
    "plot to": (["plot", "RUN", "--to", "PATH/plot.png"], 2),
    "sweep run": (["sweep", "run", "PATH"], 2),
    "sweep dir": (["sweep", "run", "HERE/sweep/sweep.yaml", "--dir", "PATH"], 2),
    "sweep show": (["sweep", "show", "PATH"], 4),
    "sweep show to": (["sweep", "show", "HERE/sweep", "--to", "PATH/plot.png"], 2),
    "sweep best": (["sweep", "best", "PATH"], 4),
    "import": (["import", "PATH", "--vocab", "HERE/vocab.txt"], 4),
    "import vocabulary": (["import", "HERE/model.pt", "--vocab", "PATH"], 3),
    "import corpus": (["import", "HERE/model.pt", "--vocab-from", "PATH"], 3),
    "import to": (["import", "HERE/model.pt", "--vocab", "HERE/vocab.txt", "-o", "PATH"], 2),
    "download from": (["download-data", "--from", "PATH", "--to", "new"], 3),
    "download to": (["download-data", "--from", "RUN", "--to", "PATH"], 3),
}
WRITES = {"run dir", "overwrite", "resume auto", "download to"}
WRITES |= {
    "export to",
    "import to",
    "plot to",
    "predictions",
    "report to",
    "rescore to",
    "states",
    "sweep dir",
    "sweep show to",
    "tune-eval to",
}
# Commands that read a pipe, such as `--data <(command)`.
READ_PIPES = {"data", "eval data", "eval text", "generate", "score", "score table", "pairs"}
READ_PIPES |= {"rescore", "tune", "mix", "import corpus"}


def long_name(_: Path) -> str:
    return "x" * 300


def long_path(_: Path) -> str:
    return "/".join(["x" * 200] * 30)


def loop(directory: Path) -> str:
    (directory / "loop").symlink_to("loop")
    return "loop"


def below_a_file(directory: Path) -> str:
    (directory / "file").write_text("a b\n")
    return "file/inner"


def named_pipe(directory: Path) -> str:
    os.mkfifo(directory / "pipe")
    return "pipe"


def bound_socket(directory: Path) -> str:
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind("socket")
    return "socket"


def device(_: Path) -> str:
    return "/dev/zero"


PATHS = [long_name, long_path, loop, below_a_file, named_pipe, bound_socket, device]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    write_small_corpus(directory / "text")
    data = ["--data", str(directory / "text"), "--run-dir", str(directory / "run")]
    code, errors, _ = ptblm("train", *TINY, *data)
    assert code == 0, errors
    (directory / "pairs.tsv").write_text("grammatical\tungrammatical\nthe cat\ta cat\n")
    (directory / "nbest").write_text("a-1 the cat\na-2 a cat\n")
    (directory / "list").write_text("-1 -2 2 the cat\n")
    model = {"encoder": nn.Embedding(4, 3), "rnn": nn.LSTM(3, 3), "decoder": nn.Linear(3, 4)}
    torch.save(nn.ModuleDict(model).state_dict(), directory / "model.pt")
    (directory / "vocab.txt").write_text("<eos>\n<unk>\nthe\ncat\n")
    write_sweep(directory / "sweep")
    return directory


def check(command: str, path: str, run: Path) -> None:
    """Runs a command with a path that cannot be used."""
    words, expected = COMMANDS[command]
    code, errors, output = ptblm(
        *(
            word.replace("PATH", path).replace("RUN", str(run)).replace("HERE", str(run.parent))
            for word in words
        )
    )
    assert code == expected, errors + output
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 or ": bad, " in output, errors
    assert path in errors + output


@pytest.mark.parametrize("make_path", PATHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_path_that_cannot_be_used(
    command: str, make_path: Callable[[Path], str], prepared: Path, in_directory: Path
) -> None:
    if make_path is named_pipe and command in READ_PIPES:
        pytest.skip("a pipe can be read: `--data <(command)`")
    check(command, make_path(in_directory), prepared / "run")


def test_every_command_with_a_path_is_tried() -> None:
    tried = {words[0] for words, _ in COMMANDS.values()}
    assert {command.name for command in app.registered_commands} <= tried


@pytest.fixture
def as_another_user() -> Iterator[Path]:
    """Runs the test as a user who may not enter the directory `locked` of the current directory."""
    here, before = Path(tempfile.mkdtemp()), Path.cwd()
    here.chmod(0o755)
    (here / "locked").mkdir()
    (here / "locked" / "inner").write_text("a b\n")
    (here / "readable").mkdir(mode=0o755)
    os.chdir(here)
    root = os.geteuid() == 0
    (here / "locked").chmod(0o700 if root else 0)
    if root:
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    try:
        yield here
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        (here / "locked").chmod(0o700)
        os.chdir(before)
        shutil.rmtree(here)


@pytest.mark.parametrize("command", ["eval", "run dir", "config show", "download to"])
def test_current_directory_that_no_longer_exists(command: str, tmp_path: Path) -> None:
    script = "import os; from ptblm.cli import main; os.rmdir(os.getcwd()); main()"
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMANDS[command][0]],
        cwd=tmp_path / "gone",
        env=plain_environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the current directory no longer exists"), done.stderr


@pytest.fixture(scope="module")
def readable(prepared: Path) -> Iterator[Path]:
    """A copy of the run that every user can read."""
    directory = Path(tempfile.mkdtemp())
    shutil.copytree(prepared, directory / "copy")
    for path in (directory, directory / "copy", *(directory / "copy").rglob("*")):
        path.chmod(0o755)
    yield directory / "copy"
    shutil.rmtree(directory)


@pytest.mark.parametrize("command", COMMANDS)
def test_path_in_a_directory_that_cannot_be_entered(
    command: str, prepared: Path, readable: Path, as_another_user: Path
) -> None:
    check(command, "locked/inner", readable / "run")


# The target of a download is created for verified files only, which test_fetch.py has.
@pytest.mark.parametrize("command", sorted(WRITES - {"download to"}))
def test_directory_that_cannot_be_written_to(
    command: str, prepared: Path, readable: Path, as_another_user: Path
) -> None:
    check(command, "readable/new" if os.geteuid() == NOBODY else "locked/new", readable / "run")
