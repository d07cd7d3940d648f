"""Fixtures shared by many tests: small corpora, the Penn Treebank, the command line."""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

if "PYTEST_XDIST_WORKER" in os.environ:  # one process per core
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings

from ptblm.backend.matmul import use_matmul_backend
from tests.new_process import run_command

REPOSITORY = Path(__file__).parents[1]

# No test depends on the speed of the machine.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("default", untimed, max_examples=100, derandomize=True)
# `make fault-injection` sets N; N=8 runs 3,000 cases of each property.
settings.register_profile("thorough", untimed, max_examples=375 * int(os.environ.get("N", "1")))
settings.load_profile("default")

Ptblm = Callable[..., "subprocess.CompletedProcess[str]"]

# Options of a run that takes less than a second.
FAST = ["--set", "model.hidden_size=8", "--set", "training.epochs=2", "--set", "model.dropout=0.1"]
FAST += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]


SHIPPED_CONFIGS = [
    *("small", "medium", "large", "small-tied", "medium-tied", "large-tied"),
    *("speedrun", "speedrun-large"),
    *("awd-lstm", "lstm-melis", "mogrifier", "rlstm", "char", "char-lstm", "test"),
]


def load_script(name: str) -> ModuleType:
    """Imports a file of `scripts/` as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A temporary corpus cache and record of what the user trained with."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTBLM_CACHE", str(directory))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield directory


@pytest.fixture(scope="session")
def golden() -> Path:
    """The directory of the reference values computed with TensorFlow."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def ptb_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Penn Treebank, which is not part of the repository.

    PTBLM_PTB names a directory with ptb.train.txt and the other files, or the archive
    simple-examples.tgz. The default is data/ptb, where `ptblm download-data` puts the files.
    """
    path = Path(os.environ.get("PTBLM_PTB") or REPOSITORY / "data" / "ptb")
    if path.is_file():
        directory = tmp_path_factory.mktemp("ptb")
        with tarfile.open(path) as archive:
            archive.extractall(directory, filter="data")
        path = directory / "simple-examples" / "data"
    if not (path / "ptb.train.txt").is_file():
        pytest.skip("needs the Penn Treebank: run `ptblm download-data` or set PTBLM_PTB")
    return path


@pytest.fixture
def small_corpus(tmp_path: Path) -> Path:
    """A corpus with three splits, nine distinct words and `<unk>`."""
    return write_small_corpus(tmp_path / "corpus")


def write_small_corpus(directory: Path) -> Path:
    """Writes the corpus of `small_corpus` to a new directory."""
    directory.mkdir()
    lines = ["the cat sat on the mat", "a dog <unk> the cat", "the dog ran"]
    (directory / "train.txt").write_text("\n".join(lines * 40) + "\n")
    (directory / "valid.txt").write_text("\n".join(lines * 8) + "\n")
    (directory / "test.txt").write_text("\n".join(lines * 8) + "\n")
    return directory


@pytest.fixture
def ptblm(tmp_path: Path) -> Ptblm:
    """Runs `ptblm ARGS...` in a new process, in an empty directory, without a terminal."""
    return _ptblm_in(tmp_path)


@pytest.fixture
def run_directory(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run of two epochs on a small corpus."""
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that `run_directory` copies; tests do not change it."""
    directory = tmp_path_factory.mktemp("finished-run")
    corpus = write_small_corpus(directory / "corpus")
    result = _ptblm_in(directory)("train", "--data", corpus, "--run-dir", "run", *FAST)
    assert result.returncode == 0, result.stderr
    return directory / "run"


def _ptblm_in(directory: Path) -> Ptblm:
    """Returns a function that runs `ptblm ARGS...` in a new process, in a directory."""

    def run(
        *arguments: object, stdin: str = "", cwd: Path = directory
    ) -> "subprocess.CompletedProcess[str]":
        words = [str(argument) for argument in arguments]
        return run_command(words, cwd=cwd, env=plain_environment(), stdin=stdin)

    return run


def plain_environment() -> dict[str, str]:
    """The environment of a process that imports the package under test and prints plain text."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture(autouse=True)
def _default_matmul_backend() -> Iterator[None]:
    """Resets the matmul backend, a setting of the whole process."""
    with use_matmul_backend("default"):
        yield


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Lets torch use one thread, which is faster for many tiny models on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trusted_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allows all custom cells in this process, as if the user had typed their names."""
    monkeypatch.setattr("ptblm.consent.is_allowed", lambda *_: True)


@pytest.fixture
def in_directory(tmp_path: Path) -> Iterator[Path]:
    """Changes the current directory to an empty one."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
