"""What many tests share: small corpora, the real one where it is at hand, the command line."""

import importlib.util
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

from ptblm.backend.matmul import use_matmul_backend

REPOSITORY = Path(__file__).parents[1]

settings.register_profile("default", max_examples=150, derandomize=True)
# `make fault_injection` says how much of it: 3,000 cases of each kind for N=8.
settings.register_profile("thorough", max_examples=375 * int(os.environ.get("N", "1")))
settings.load_profile("default")

Ptblm = Callable[..., "subprocess.CompletedProcess[str]"]


def load_script(name: str) -> ModuleType:
    """A file of `scripts/` as a module."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where corpora are cached: not in the home of whoever runs the tests."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTBLM_CACHE", str(directory))
        yield directory


@pytest.fixture(scope="session")
def golden() -> Path:
    """The directory of TensorFlow's figures."""
    return REPOSITORY / "tests" / "golden"


@pytest.fixture(scope="session")
def ptb_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real Penn Treebank, which is never part of the repository."""
    downloaded = REPOSITORY / "data" / "ptb"
    if (downloaded / "ptb.train.txt").is_file():
        return downloaded
    archive = REPOSITORY.parent / "shared" / "data" / "simple-examples.tgz"
    if not archive.is_file():
        pytest.skip(f"needs the Penn Treebank in {downloaded} (ptblm download-data)")
    directory = tmp_path_factory.mktemp("ptb")
    with tarfile.open(archive) as files:
        files.extractall(directory, filter="data")
    return directory / "simple-examples" / "data"


@pytest.fixture
def small_corpus(tmp_path: Path) -> Path:
    """A directory with three splits of a toy language of nine words and `<unk>`."""
    directory = tmp_path / "corpus"
    directory.mkdir()
    lines = ["the cat sat on the mat", "a dog <unk> the cat", "the dog ran"]
    (directory / "train.txt").write_text("\n".join(lines * 40) + "\n")
    (directory / "valid.txt").write_text("\n".join(lines * 8) + "\n")
    (directory / "test.txt").write_text("\n".join(lines * 8) + "\n")
    return directory


@pytest.fixture
def ptblm(tmp_path: Path) -> Ptblm:
    """Runs `ptblm ARGS...` in a fresh process, in an empty directory, without a terminal."""

    def run(
        *arguments: object, stdin: str = "", cwd: Path = tmp_path
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ptblm", *map(str, arguments)],
            cwd=cwd,
            input=stdin,
            env=plain_environment(),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def plain_environment() -> dict[str, str]:
    """The environment of a child that finds the package under test and prints plain text."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "100"}


@pytest.fixture(autouse=True)
def _default_matmul_backend() -> Iterator[None]:
    """Resets the matmul backend, a setting of the whole process."""
    with use_matmul_backend("default"):
        yield


@pytest.fixture
def in_directory(tmp_path: Path) -> Iterator[Path]:
    """Makes an empty directory the current one."""
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)
