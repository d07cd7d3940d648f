"""Whatever comes in, through the real entry points: a clear line, the right code, nothing lost.

Properties over random YAML, random bytes as corpora, mutated checkpoints and mutated archives.
`make fault_injection` runs many more cases of each (the profile "thorough").
"""

import contextlib
import io
import json
import signal
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptblm.checkpoint.format import (
    Checkpoint,
    current_versions,
    load_checkpoint,
    save_checkpoint,
)
from ptblm.checkpoint.tensor_file import read_tensor_file, write_tensor_file
from ptblm.cli import main
from ptblm.config.loading import load_config, shipped_configs
from ptblm.config.schema import Config
from ptblm.errors import PtblmError
from ptblm.run.resume import restore
from ptblm.run.setup import setup_run, trained_model

# Fixtures stand for files that no case changes.
several_cases = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def ptblm(*arguments: object) -> tuple[int, str]:
    """Runs the command line in this process; its exit code and what it wrote to stderr."""
    errors = io.StringIO()
    before = sys.argv
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    sys.argv = ["ptblm", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    else:
        code = 0
    finally:
        sys.argv = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code, errors.getvalue()


def assert_clear(code: int, errors: str, *allowed: int) -> None:
    assert code in (0, *allowed), errors
    assert "Traceback" not in errors
    assert code == 0 or errors.startswith("error: "), errors


# --- configs ---

KEYS = [key for section in Config().model_dump().values() for key in section]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["auto", "fp32", "1e-3", "5 minutes", "sample", "no", "~", "1e400"])
)
NAMES = st.sampled_from([*Config.model_fields, *KEYS, "max_epoch"]) | st.text(max_size=6)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=15,
)


@st.composite
def mutated(draw: st.DrawFn, original: bytes) -> bytes:
    """Some bytes of a good file overwritten, left out, doubled or put in."""
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        kind = draw(st.sampled_from(["overwrite", "leave out", "double", "put in", "cut"]))
        if kind == "overwrite":
            data[start : start + length] = draw(st.binary(min_size=length, max_size=length))
        elif kind == "leave out":
            del data[start : start + length]
        elif kind == "double":
            data[start:start] = data[start : start + length]
        elif kind == "put in":
            data[start:start] = draw(st.binary(max_size=40))
        else:
            del data[start:]
    return bytes(data)


SMALL = shipped_configs()["small"].read_bytes()


@several_cases
@given(content=DOCUMENTS.map(lambda d: yaml.safe_dump(d).encode()) | st.binary() | mutated(SMALL))
def test_any_bytes_as_a_config(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    code, errors = ptblm("config", "show", path)
    assert_clear(code, errors, 2)
    assert path.read_bytes() == content


@several_cases
@given(key=NAMES, value=st.text(max_size=12) | SCALARS.map(str))
def test_any_override(key: str, value: str) -> None:
    for text in (f"{key}={value}", f"training.{key}={value}", f"model.{key}={value}", value):
        code, errors = ptblm("config", "show", "small", f"--set={text}")
        assert_clear(code, errors, 2)


# --- corpora ---

WORDS = st.sampled_from(["the", "cat", "<unk>", "<eos>", "ünï", "\ufeff", "\x00", "\x1c", "\u2028"])
LINES = st.lists(WORDS, max_size=6).map(" ".join)
TEXTS = st.builds(
    lambda lines, end: end.join(lines).encode(),
    st.lists(LINES, max_size=40),
    st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)
TINY = ["--set", "model.hidden_size=2", "--set", "model.num_layers=1"]
TINY += ["--set", "training.batch_size=2", "--set", "training.num_steps=2"]


LEVELS = st.sampled_from(["word", "char", "byte"])


@several_cases
@given(texts=st.lists(TEXTS | st.binary(max_size=60), min_size=3, max_size=3), level=LEVELS)
def test_any_bytes_as_a_corpus(tmp_path: Path, texts: list[bytes], level: str) -> None:
    for split, text in zip(("train", "valid", "test"), texts, strict=True):
        (tmp_path / f"{split}.txt").write_bytes(text)
    code, errors = ptblm("train", "--data", tmp_path, "--tokenizer", level, "--dry-run", *TINY)
    assert_clear(code, errors, 3)
    for split, text in zip(("train", "valid", "test"), texts, strict=True):
        assert (tmp_path / f"{split}.txt").read_bytes() == text


@several_cases
@given(text=TEXTS | st.binary(max_size=200), level=LEVELS)
def test_any_file_as_a_corpus(tmp_path: Path, text: bytes, level: str) -> None:
    path = tmp_path / "any"
    path.write_bytes(text)
    code, errors = ptblm("train", "--data", path, "--tokenizer", level, "--dry-run", *TINY)
    assert_clear(code, errors, 3)
    assert level != "byte" or code == 0 or len(text) < 120
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b"a b\n" * 20, 60),
        (b"\xef\xbb\xbfa b\n" + b"a b\n" * 19, 60),
        (b"a b\r\n" * 20, 60),
        (b"a b\n" * 19 + b"a b", 60),
        (b"a b\n\n" * 20, 80),
        (b"a \x00 b\n" * 20, 80),
        (b"a b " * 12_500_000 + b"\n", 25_000_001),  # one line of 50 MB
    ],
    ids=["plain", "BOM", "CRLF", "no final newline", "blank lines", "NUL", "one long line"],
)
def test_odd_texts_have_a_meaning(tmp_path: Path, text: bytes, tokens: int) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_bytes(text if split == "train" else text[:400])
    components = setup_run(load_config("small", [f"data.path={tmp_path}", *TINY[1::2]]))
    assert len(components.corpus.splits["train"].ids) == tokens
    assert {"a", "b"} <= set(components.corpus.vocabulary.tokens)


# --- checkpoints ---


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real checkpoint of a tiny model on the sample corpus, after two steps."""
    overrides = ["data.path=sample", "model.hidden_size=2", "model.num_layers=1"]
    components = setup_run(load_config("small", overrides))
    records = components.trainer.records()
    next(records)
    next(records)
    path = tmp_path_factory.mktemp("good") / "last.safetensors"
    checkpoint = Checkpoint(
        config=components.config.model_dump(),
        vocabulary=components.corpus.vocabulary.as_dict(),
        corpus={
            "name": "sample",
            "sha256": {split: text.sha256 for split, text in components.corpus.splits.items()},
        },
        **components.trainer.state_dict(),
        metrics_offset=0,
        versions=current_versions(),
        computing=components.computing(),
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("the boat sails\nthe cook cooks\n")
    return path


@several_cases
@given(data=st.data())
def test_a_mutated_checkpoint(good: Path, text: Path, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "checkpoint.safetensors"
    content = data.draw(mutated(good.read_bytes()) | st.binary(max_size=200))
    path.write_bytes(content)
    for arguments in (["eval", path, "--text", text], ["checkpoint", "show", path]):
        code, errors = ptblm(*arguments)
        assert_clear(code, errors, 4)
    assert path.read_bytes() == content


def locations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place inside of nested dicts and lists."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from locations(inner, (*path, key))


OTHER_VALUES = SCALARS | st.integers(10**6, 10**12) | st.sampled_from([{}, [], [1], {"a": 1}])
OTHER_TENSORS = st.sampled_from(
    [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int64), torch.tensor(float("nan"))]
)


@several_cases
@given(data=st.data())
def test_a_checkpoint_with_another_value_somewhere(
    good: Path, text: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Well-formed, checksums right, and one thing in it changed, at any depth."""
    text_document, tensors = read_tensor_file(good)
    content: dict[str, Any] = {"document": json.loads(text_document), "tensors": tensors}
    everywhere = [
        p for p in locations(content) if len(p) > 1 and (p[1] != "vocabulary" or len(p) == 2)
    ]
    path = data.draw(st.sampled_from(everywhere))
    inner: Any = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(OTHER_TENSORS if path[0] == "tensors" else OTHER_VALUES)
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True, exist_ok=True)
    last = run / "checkpoints" / "last.safetensors"
    write_tensor_file(last, json.dumps(content["document"]), content["tensors"])
    before = (run / "checkpoints" / "last.safetensors").read_bytes()
    code, errors = ptblm("eval", run, "--text", text)
    assert_clear(code, errors, 3, 4)
    code, errors = ptblm("checkpoint", "verify", run)
    assert code in (0, 4)
    assert "Traceback" not in errors
    assert (run / "checkpoints" / "last.safetensors").read_bytes() == before
    # Going on from it is refused, or is possible.
    with contextlib.suppress(PtblmError):
        checkpoint = load_checkpoint(run / "checkpoints" / "last.safetensors")
        config = checkpoint.parsed_config()
        trained_model(config.model, checkpoint, run)
        components = setup_run(config)
        restore(components, checkpoint, run)
        next(components.trainer.records())


# --- archives ---


def make_archive(members: list[tuple[str, bytes, bytes]], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            info.size = len(data)
            info.linkname = "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


MEMBERS = st.tuples(
    st.sampled_from(["ptb.train.txt", "../ptb.train.txt", "/tmp/x", "a/ptb.valid.txt", "a"])
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20),
    st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE]),
    st.binary(max_size=50),
)
ARCHIVES = st.builds(
    make_archive, st.lists(MEMBERS, max_size=5), st.sampled_from(["w", "w:gz", "w:bz2", "w:xz"])
)


@several_cases
@given(content=ARCHIVES | ARCHIVES.flatmap(mutated) | st.binary(max_size=100))
def test_any_archive(tmp_path: Path, content: bytes) -> None:
    path, target = tmp_path / "archive", tmp_path / "to"
    path.write_bytes(content)
    code, errors = ptblm("download-data", "--from", path, "--to", target)
    assert_clear(code, errors, 3)
    assert code == 3  # none of these is the Penn Treebank
    assert not target.exists() or list(target.iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} <= {"archive", "to"}
