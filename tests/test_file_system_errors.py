"""Every error of the file system is one message with the right exit code, for every command."""

import errno
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.conftest import write_small_corpus
from tests.failing_calls import failing_calls
from tests.in_process import ptblm
from tests.run.sweep_files import write_sweep

pytestmark = pytest.mark.usefixtures("one_thread")

ERRORS = [
    errno.EACCES,
    errno.ENAMETOOLONG,
    errno.EIO,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENOSPC,
    errno.EISDIR,
    errno.ELOOP,
]
TINY = ["--set", "model.hidden_size=2", "--set", "training.epochs=1", "--set", "data.path=text"]
TINY += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]

# Commands in a directory with a finished run, a config and a corpus; exit codes of their errors.
COMMANDS: dict[str, tuple[list[str], set[int]]] = {
    "train": (["train", "--config", "my.yaml", "--run-dir", "new", *TINY], {2, 3, 4}),
    "overwrite": (["train", "--overwrite", "--run-dir", "run", *TINY], {2, 3, 4}),
    "resume": (["train", "--resume", "run", "--set", "training.epochs=2"], {2, 3, 4}),
    "init": (["train", "--init", "run", "--run-dir", "new"], {2, 3, 4}),
    "dry run": (["train", "--dry-run", *TINY], {2, 3}),
    "eval": (["eval", "run"], {2, 3, 4}),
    "eval text": (["eval", "run", "--text", "text/test.txt"], {2, 3, 4}),
    "settings": (["eval", "run", "--settings", "settings.yaml"], {2, 3, 4}),
    "tune-eval": (["tune-eval", "run", "--max-tokens=20", "--to", "settings.json"], {2, 3, 4}),
    "generate": (["generate", "run", "--prompt-file", "text/test.txt", "--tokens=2"], {2, 3, 4}),
    "pairs": (["pairs", "run", "pairs.tsv", "--predictions", "predictions.tsv"], {2, 3, 4}),
    "rescore": (["rescore", "run", "nbest", "--format", "srilm", "--to", "rescored"], {2, 3, 4}),
    "compare": (["compare", "run"], {2, 4}),
    "report": (["report", "run", "--no-analysis"], {2, 4}),
    "export": (["export", "run", "--to", "safetensors"], {2, 4}),
    "plot": (["plot", "run", "--panels=speed", "--to", "plot.svg"], {2, 4}),
    "sweep show": (["sweep", "show", "sweep"], {2, 4}),
    "sweep best": (["sweep", "best", "sweep"], {2, 4}),
    "import": (["import", "model.pt", "--vocab", "vocab.txt", "-o", "new"], {2, 3, 4}),
    "score": (["score", "run", "text/test.txt"], {2, 3, 4}),
    "states": (["score", "run", "text/test.txt", "--states", "states.npz"], {2, 3, 4}),
    "table": (["score", "run", "table.tsv", "--table"], {2, 3, 4}),
    "show": (["checkpoint", "show", "run"], {4}),
    "verify": (["checkpoint", "verify", "run"], {4}),
    "config": (["config", "show", "my.yaml"], {2}),
    "download": (["download-data", "--from", "empty.tar", "--to", "data"], {3}),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("prepared")
    write_small_corpus(directory / "text")
    (directory / "my.yaml").write_text("training: {epochs: 1}\n")
    (directory / "settings.yaml").write_text("temperature: 0.9\n")
    (directory / "pairs.tsv").write_text("grammatical\tungrammatical\nthe cat\ta cat\n")
    (directory / "nbest").write_text("-1 -2 2 the cat\n")
    model = {"encoder": nn.Embedding(4, 3), "rnn": nn.LSTM(3, 3), "decoder": nn.Linear(3, 4)}
    torch.save(nn.ModuleDict(model).state_dict(), directory / "model.pt")
    (directory / "vocab.txt").write_text("<eos>\n<unk>\nthe\ncat\n")
    (directory / "table.tsv").write_text("item\tword\n1\tthe\n1\tcat\n")
    write_sweep(directory / "sweep")
    with tarfile.open(directory / "empty.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("a"), io.BytesIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        code, errors, _ = ptblm("train", "--run-dir", "run", *TINY)
    assert code == 0, errors
    return directory


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """Makes a fresh copy of the prepared directory, and changes to it."""

    def copy() -> Path:
        directory = tmp_path / "copy"
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(prepared, directory)
        # The run was trained with the text at its original path.
        monkeypatch.chdir(directory)
        return directory

    return copy


@pytest.mark.parametrize(
    ("shift", "step"), [(0, 8), *(pytest.param(n, 1, marks=pytest.mark.slow) for n in (1, 4, 6))]
)
@pytest.mark.parametrize("name", COMMANDS)
def test_any_failing_call_is_one_message(
    name: str, shift: int, step: int, here: Callable[[], Path]
) -> None:
    """Calls fail one at a time, each with another error; the slow tests try all calls."""
    command, codes = COMMANDS[name]
    here()
    with failing_calls(None) as calls:
        code, errors, _ = ptblm(*command)
    assert code in (0, 3), errors
    problems = []
    for number in range(shift % step, len(calls.made), step):
        directory = here()
        error = ERRORS[(number // step + shift) % len(ERRORS)]
        with failing_calls(number, error):
            code, errors, output = ptblm(*command)
        messages = [line for line in errors.splitlines() if line.startswith("error: ")]
        messages += [line for line in output.splitlines() if ": bad, " in line]
        verdict = ptblm("checkpoint", "verify", directory / "run")
        is_clear = (
            len(messages) == 1 if code in codes else code == 0
        ) and "Traceback" not in errors
        if not is_clear or (name != "overwrite" and verdict[0] != 0):
            last_lines = "\n".join(errors.splitlines()[-6:])
            problems.append(f"{calls.made[number]}: {os.strerror(error)}: {code}\n{last_lines}")
    assert not problems, f"{len(problems)} of {len(calls.made)}\n" + "\n".join(problems)
