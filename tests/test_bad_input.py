"""Property tests: invalid input gives a message and an exit code, and changes no file.

The input is random YAML, random bytes as corpora and mutated archives.
`make fault-injection` runs many more cases of each (the profile "thorough").
"""

import io
import tarfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ptblm.config.loading import load_config, shipped_configs
from ptblm.config.schema import Config
from ptblm.run.setup import setup_run
from tests.in_process import assert_clear, mutated, ptblm

# No case changes the files of a fixture.
several_cases = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Half of the cases, for properties whose cases take long; the profile "thorough" runs all of them.
_CASES = settings().max_examples
_IS_DEFAULT = settings.get_profile("default").max_examples == _CASES
fewer_cases = settings(several_cases, max_examples=_CASES // 2 if _IS_DEFAULT else _CASES)


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
SMALL = shipped_configs()["small"].read_bytes()


@fewer_cases
@given(content=DOCUMENTS.map(lambda d: yaml.safe_dump(d).encode()) | st.binary() | mutated(SMALL))
def test_random_config_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    code, errors, _ = ptblm("config", "show", path)
    assert_clear(code, errors, 2)
    assert path.read_bytes() == content


@fewer_cases
@given(key=NAMES, value=st.text(max_size=12) | SCALARS.map(str))
def test_random_override(key: str, value: str) -> None:
    for text in (f"{key}={value}", f"training.{key}={value}", f"model.{key}={value}", value):
        code, errors, _ = ptblm("config", "show", "small", f"--set={text}")
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
TOKENIZERS = st.sampled_from(["word", "char", "byte"])


@fewer_cases
@given(texts=st.lists(TEXTS | st.binary(max_size=60), min_size=3, max_size=3), tokenizer=TOKENIZERS)
def test_random_corpus_directory(tmp_path: Path, texts: list[bytes], tokenizer: str) -> None:
    for split, text in zip(("train", "valid", "test"), texts, strict=True):
        (tmp_path / f"{split}.txt").write_bytes(text)
    code, errors, _ = ptblm(
        "train", "--data", tmp_path, "--tokenizer", tokenizer, "--dry-run", *TINY
    )
    assert_clear(code, errors, 3)
    for split, text in zip(("train", "valid", "test"), texts, strict=True):
        assert (tmp_path / f"{split}.txt").read_bytes() == text


@fewer_cases
@given(text=TEXTS | st.binary(max_size=200), tokenizer=TOKENIZERS)
def test_random_corpus_file(tmp_path: Path, text: bytes, tokenizer: str) -> None:
    path = tmp_path / "any"
    path.write_bytes(text)
    code, errors, _ = ptblm("train", "--data", path, "--tokenizer", tokenizer, "--dry-run", *TINY)
    assert_clear(code, errors, 3)
    assert tokenizer != "byte" or code == 0 or len(text) < 120
    assert path.read_bytes() == text


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (b"a b\n" * 20, 60),
        (b"\xef\xbb\xbfa b\n" + b"a b\n" * 19, 60),
        (b"a b\r\n" * 20, 60),
        (b"a b\n" * 19 + b"a b", 60),
        (b"a b\n\n" * 20, 80),
        (b"a b " * 1_250_000 + b"\n", 2_500_001),  # one line of 5 MB
    ],
    ids=["plain", "BOM", "CRLF", "no final newline", "blank lines", "one long line"],
)
def test_unusual_line_ends_and_characters(tmp_path: Path, text: bytes, tokens: int) -> None:
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_bytes(text if split == "train" else text[:400])
    components = setup_run(load_config("small", [f"data.path={tmp_path}", *TINY[1::2]]))
    assert len(components.corpus.splits["train"].ids) == tokens
    assert {"a", "b"} <= set(components.corpus.vocabulary.tokens)


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
def test_random_archive(tmp_path: Path, content: bytes) -> None:
    path, target = tmp_path / "archive", tmp_path / "to"
    path.write_bytes(content)
    code, errors, _ = ptblm("download-data", "--from", path, "--to", target)
    assert_clear(code, errors, 3)
    assert code == 3  # none of these is the Penn Treebank
    assert not target.exists() or list(target.iterdir()) == []
    assert {entry.name for entry in tmp_path.iterdir()} <= {"archive", "to"}
