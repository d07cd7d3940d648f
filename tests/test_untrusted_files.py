"""Property tests: files from a stranger do no harm.

Checkpoints, run directories and cached corpora with any bytes and any structure lead to a message
or to a result, in bounded time and memory, and no file outside of the target changes.
`make fault-injection` runs many more cases of each (the profile "thorough").
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ptblm.checkpoint.tensor_file import read_tensor_file, write_tensor_file
from tests.bounds import bounded
from tests.conftest import write_small_corpus
from tests.in_process import locations, mutated, ptblm
from tests.run.helpers import last_checkpoint
from tests.test_bad_input import SCALARS, fewer_cases, several_cases

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = ["--config", "test", "--set", "model.hidden_size=2", "--set", "training.epochs=1"]
TINY += ["--set", "training.batch_size=4", "--set", "training.num_steps=5"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a text and a finished run on it."""
    directory = tmp_path_factory.mktemp("trained")
    data = write_small_corpus(directory / "text")
    adam = ["--set", "training.optimizer=adam", "--set", "training.learning_rate=0.001"]
    code, errors, _ = ptblm("train", *TINY, *adam, "--data", data, "--run-dir", directory / "run")
    assert code == 0, errors
    return directory


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Files of the user that no command may change."""
    directory = tmp_path / "outside"
    (directory / "inner").mkdir(parents=True)
    (directory / "precious").write_text("years of work\n")
    return directory


# --- checkpoints ---

JSON = st.recursive(
    SCALARS | st.integers(-(2**70), 2**70) | st.sampled_from([1e300, float("nan")]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
LARGE = st.sampled_from(
    [
        "[" * 2000 + "]" * 2000,
        '{"a":' * 500 + "1" + "}" * 500,
        "9" * 30_000,
        "[" + "[]," * 300_000 + "[]]",
        "[" + '"ab",' * 300_000 + '"ab"]',
        "{" + ",".join(f'"{n}":{n}' for n in range(100_000)) + "}",
        '"' + "\\\\" * 300_000,
        '"' + '\\"' * 300_000,
        '"' + "x" * 1_000_000 + '"',
    ]
)


def signed(header: str, data: bytes) -> bytes:
    """A checkpoint file with a correct digest around any header."""
    start = '{"__metadata__":{"sha256":"' + "0" * 64 + '",' + header
    encoded = start.encode("utf-8", "surrogatepass")
    prefix = len(encoded).to_bytes(8, "little")
    digest = hashlib.sha256(prefix + encoded + data).hexdigest().encode()
    return prefix + encoded.replace(b"0" * 64, digest, 1) + data


@st.composite
def headers(draw: st.DrawFn) -> str:
    """The part of a header after the digest, with any JSON in each of its places."""
    anything = JSON.map(json.dumps) | LARGE
    document = draw(anything)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I64", "BOOL", "F8_E4M3"]) | JSON,
            "shape": st.lists(st.integers(-1, 2**64), max_size=40) | JSON,
            "data_offsets": st.lists(st.integers(0, 100), min_size=2, max_size=2) | JSON,
        }
    ).map(json.dumps)
    names = st.text(max_size=8) | st.sampled_from(["model.w", "x" * 2000, "\x1b[2J\n"])
    tensors = draw(st.lists(st.tuples(names, entry | anything), max_size=3))
    parts = [f'"ptblm":{json.dumps(document)}}}']
    parts += [f"{json.dumps(name)}:{value}" for name, value in tensors]
    return ",".join(parts) + draw(st.sampled_from(["}", "", "}}", "}  "]))


@several_cases
@given(data=st.data())
def test_checkpoint_with_any_bytes(
    trained: Path, outside: Path, tmp_path: Path, data: st.DataObject
) -> None:
    path = tmp_path / "checkpoint.safetensors"
    good = last_checkpoint(trained / "run").read_bytes()
    content = data.draw(mutated(good) | st.binary(max_size=200))
    path.write_bytes(content)
    text = trained / "text" / "test.txt"
    for words in (["eval", path, "--text", text], ["checkpoint", data.draw(LOOK), path]):
        bounded(*words, codes={4}, surroundings=outside, size=len(content))
    assert path.read_bytes() == content


LOOK = st.sampled_from(["show", "verify"])


@fewer_cases
@given(header=headers(), data=st.binary(max_size=100), look=LOOK)
def test_checkpoint_with_any_header(
    outside: Path, tmp_path: Path, header: str, data: bytes, look: str
) -> None:
    content = signed(header, data)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    code, _, _ = bounded(
        "checkpoint", look, path, codes={4}, surroundings=outside, size=len(content)
    )
    assert code == 4


OTHER_VALUES = SCALARS | st.integers(10**6, 10**12) | st.sampled_from([{}, [], [1], {"a": 1}])
OTHER_TENSORS = st.sampled_from(
    [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.tensor(float("nan"))]
)


@fewer_cases
@given(data=st.data())
def test_checkpoint_with_one_changed_value(
    trained: Path, outside: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """The file is well-formed with a correct digest; one value at any depth is changed."""
    document, tensors = read_tensor_file(last_checkpoint(trained / "run"))
    content: dict[str, Any] = {"document": document, "tensors": tensors}
    everywhere = [
        p for p in locations(content) if len(p) > 1 and (p[1] != "vocabulary" or len(p) == 2)
    ]
    path = data.draw(st.sampled_from(everywhere))
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(OTHER_TENSORS if path[0] == "tensors" else OTHER_VALUES)
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    (run / "checkpoints").mkdir(parents=True)
    last = last_checkpoint(run)
    write_tensor_file(last, content["document"], content["tensors"])
    before = last.read_bytes()
    text = trained / "text" / "test.txt"
    verdict, _, _ = bounded("checkpoint", "verify", run, codes={4}, surroundings=outside)
    code, _, _ = bounded("eval", run, "--text", text, codes={3, 4}, surroundings=outside)
    assert verdict == 4 or code == 0  # what is called good can be used
    assert last.read_bytes() == before
    resume = ["train", "--resume", run, "--set", "training.epochs=2"]
    bounded(*resume, codes={2, 3, 4, 5}, surroundings=outside)


# --- run directories ---

FILES = ["config.yaml", "environment.json", "metrics.jsonl", "result.json", "diverged.json", "lock"]
FILES += ["checkpoints", "checkpoints/last.safetensors", "checkpoints/best.safetensors"]
FILES += ["checkpoints/step-000000001.safetensors", "tensorboard", "tensorboard/events.out.a"]
FILES += ["a", "plot.png", "report.html"]


def link(target: str) -> Callable[[Path, Path], None]:
    return lambda path, outside: path.symlink_to(outside / target)


def make_hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**34)


STRANGE_FILES: dict[str, Callable[[Path, Path], None]] = {
    "pipe": lambda path, _: os.mkfifo(path),
    "directory": lambda path, _: path.mkdir(),
    "directory in it": lambda path, _: (path / "inner").mkdir(parents=True),
    "link": link("precious"),
    "link to a directory": link("inner"),
    "link to nothing": link("nothing"),
    "loop": lambda path, _: path.symlink_to(path.name),
    "hard link": lambda path, outside: os.link(outside / "precious", path),
    "empty": lambda path, _: path.touch(),
    "hole": lambda path, _: make_hole(path),
}
RUN_COMMANDS = [
    ["train", "--resume", "RUN", "--set", "training.epochs=2"],
    ["train", *TINY, "--run-dir", "RUN", "--overwrite"],
    ["train", *TINY, "--run-dir", "RUN", "--resume", "auto"],
    ["eval", "RUN"],
    ["checkpoint", "verify", "RUN"],
    ["train", "--init", "RUN", "--dry-run"],
    ["plot", "RUN", "--overwrite"],
]


@fewer_cases
@given(
    command=st.sampled_from(RUN_COMMANDS),
    names=st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True),
    data=st.data(),
)
def test_run_directory_with_any_files(
    trained: Path,
    outside: Path,
    tmp_path: Path,
    command: list[str],
    names: list[str],
    data: st.DataObject,
) -> None:
    run = tmp_path / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(trained / "run", run)
    for name in names:
        path = run / name
        if not path.parent.is_dir():  # it has just been replaced
            continue
        before = path.read_bytes() if path.is_file() else b"{}"
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        strange = st.sampled_from(sorted(STRANGE_FILES))
        content = mutated(before) | st.binary(max_size=100) | LARGE.map(str.encode)
        what = data.draw(strange | content)
        if isinstance(what, bytes):
            path.write_bytes(what)
        else:
            STRANGE_FILES[what](path, outside)
    words = [str(run) if word == "RUN" else word for word in command]
    words += ["--data", str(trained / "text")] if words[0] in ("train", "eval") else []
    bounded(*words, codes={2, 3, 4, 5}, surroundings=outside, size=10**6)


# --- cached corpora ---


@pytest.fixture(scope="module")
def cached(
    trained: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, bytes, list[str], str]]:
    """The file of a cached corpus, its content, the command that reads it, and its output."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PTBLM_CACHE", str(tmp_path_factory.mktemp("cached")))
        patch.setattr("ptblm.corpus.corpus.MIN_CACHED_SIZE", 0)
        command = ["train", *TINY, "--data", str(trained / "text"), "--dry-run"]
        code, errors, output = ptblm(*command)
        assert code == 0, errors
        (path,) = Path(os.environ["PTBLM_CACHE"]).glob("*/ids")
        yield path, path.read_bytes(), command, output


@fewer_cases
@given(data=st.data(), resign=st.booleans())
def test_cached_corpus_with_any_bytes(
    cached: tuple[Path, bytes, list[str], str], outside: Path, data: st.DataObject, resign: bool
) -> None:
    """A damaged file is rewritten from the text."""
    path, good, command, output = cached
    content = data.draw(mutated(good) | st.binary(max_size=200))
    if resign:
        content = content[:-32] + hashlib.sha256(content[:-32]).digest()
    path.write_bytes(content)
    code, _, found = bounded(*command, codes=set(), surroundings=outside)
    assert code == 0
    corpus = [line for line in output.splitlines() if line.startswith(("corpus", "param", "steps"))]
    assert [line for line in found.splitlines() if line in corpus] == corpus


# --- paths ---

PATH_TEXT = st.text("ab./~$*?[]'\"\\ -\n\x1b\x7f\u202e\u2028é\udcff", min_size=1, max_size=20)
STRANGE_PATHS = ["x" * 300, "a/" * 3000, "/dev/null", "/proc/self/mem"]
PATHS = PATH_TEXT | st.sampled_from(STRANGE_PATHS)
PATH_COMMANDS = [
    ["eval", "PATH"],
    ["checkpoint", "verify", "PATH"],
    ["train", "--resume", "PATH"],
    ["train", "--init", "PATH"],
    ["config", "show", "PATH"],
    ["train", *TINY, "--data", "PATH", "--dry-run"],
    ["eval", "RUN", "--data", "PATH"],
    ["eval", "RUN", "--settings", "PATH"],
    ["tune-eval", "RUN", "PATH"],
    ["download-data", "--from", "PATH", "--to", "new"],
    ["score", "RUN", "PATH"],
    ["pairs", "RUN", "PATH"],
    ["rescore", "RUN", "PATH", "--format", "srilm"],
    ["generate", "RUN", "--prompt-file", "PATH"],
    ["plot", "PATH"],
    ["sweep", "run", "PATH"],
    ["sweep", "show", "PATH"],
    ["sweep", "best", "PATH"],
    ["compare", "PATH", "RUN", "--by-seed"],
    ["report", "RUN", "--overwrite"],
    ["report", "PATH", "--no-analysis"],
    ["report", "RUN", "--to", "PATH", "--no-analysis"],
    ["export", "PATH", "--to", "safetensors"],
    ["export", "RUN", "--to", "safetensors", "-o", "PATH"],
    ["plot", "RUN", "--to", "PATH"],
    ["import", "PATH", "--vocab", "PATH"],
]


@several_cases
@given(command=st.sampled_from(PATH_COMMANDS), path=PATHS)
def test_any_path(
    trained: Path, outside: Path, in_directory: Path, command: list[str], path: str
) -> None:
    words = [{"PATH": path, "RUN": str(trained / "run")}.get(word, word) for word in command]
    bounded(*words, codes={2, 3, 4}, surroundings=outside)
