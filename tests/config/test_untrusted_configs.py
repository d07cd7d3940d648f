"""Configs from strangers: bounded time, memory and messages."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.config.yaml_document import MAX_CONFIG_BYTES
from ptblm.errors import ConfigError
from tests.conftest import plain_environment

SIZE = MAX_CONFIG_BYTES - 100


def filled(unit: str, before: str = "", after: str = "") -> str:
    """A text of nearly the largest size that repeats `unit`."""
    return before + unit * ((SIZE - len(before) - len(after)) // len(unit)) + after


def numbered(unit: str, size: int = SIZE) -> str:
    """A text of about `size` characters that repeats `unit` with rising numbers."""
    return "".join(unit.format(index) for index in range(size // (len(unit) + 3)))


LARGE = {
    "flow sequence": (filled("1,", "[", "]"), "too many values (more than 100,000)"),
    "sequence of a key": (filled("1,", "model: [", "]"), "too many values"),
    "flow mapping": (filled("a: ,", "{", "}"), "too many values"),
    "block sequence": (filled("- \n"), "too many values"),
    "empty mappings": (filled("{},", "[", "]"), "too many values"),
    "nested sequences": (filled("- "), "nested too deeply"),
    "nested flow": (filled("["), "nested too deeply"),
    "nested mappings": (filled("{a: "), "nested too deeply"),
    "nested keys": (filled("? "), "nested too deeply"),
    "small nesting": ("- " * 5000, "nested too deeply"),
    "anchors": (numbered("- &a{} 1\n"), "expected sections"),
    "aliases": (numbered("- *a{}\n"), "aliases (*name) are not supported"),
    "tags": (numbered("- !a{} 1\n"), "custom tags (!a0) are not supported"),
    "tag directives": (numbered("%TAG !a{}! b\n") + "---\na: 1\n", "too many directives"),
    "unknown keys": (numbered("key{}: 1\n", 800_000), "my.yaml:1:1: key0: unknown key"),
    "duplicate keys": ("a: 1\n" * 90_000, "my.yaml:2:1: 'a' is a duplicate key"),
    "long key": (filled("k", "? ", "\n: 1"), "unknown key"),
    "long value": (filled("v", "model: "), "expected a section of keys"),
    "long number": (filled("9", "training: {seed: ", "}"), "is not a valid value"),
    "long tag": (filled("t", "model: !", " 1"), "custom tags"),
    "bad escape": (filled("\\x", 'model: "', '"'), "not valid YAML"),
    "control character": (filled("a", "model: ", "\x9b"), "not valid YAML: unacceptable character"),
    "comments": (filled("# c\n", "", "model: 1\n"), "expected a section of keys"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_config_ends_soon_with_short_messages(kind: str, tmp_path: Path) -> None:
    text, message = LARGE[kind]
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert time.process_time() - start < 2.5
    assert message in caught.value.problems[0]
    assert len(caught.value.problems) <= 21
    assert all(len(problem) < 900 + len(str(path)) for problem in caught.value.problems)


def test_many_unknown_keys_are_counted(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("".join(f"key{index}: 1\n" for index in range(60_000)))
    start = time.process_time()
    with pytest.raises(ConfigError) as caught:
        load_config(str(tmp_path / "my.yaml"))
    assert time.process_time() - start < 2
    assert len(caught.value.problems) == 21
    assert caught.value.problems[-1] == "and 59,980 more problems"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("kind", ["flow sequence", "unknown keys", "duplicate keys", "anchors"])
def test_large_config_needs_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{'long' * 50}.yaml"
    path.write_text(LARGE[kind][0], encoding="utf-8")
    script = (
        "import sys\n"
        "from ptblm.config.loading import load_config\n"
        "try: load_config(sys.argv[1])\n"
        "except Exception: pass\n"
        "print(*(line.split()[1] for line in open('/proc/self/status') if 'VmHWM' in line))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env=plain_environment(),
        capture_output=True,
        text=True,
    )
    assert int(result.stdout) < 300_000, result.stderr  # kilobytes


@pytest.mark.parametrize(
    "key", ["data.path", "data.vocabulary.file", "data.encoding", "run.device"]
)
def test_null_character_is_a_config_error(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"--set .*: {key}: expected ") as caught:
        load_config("small", [f'{key}="a\\0b"'])
    assert "pattern" not in caught.value.what


@pytest.mark.parametrize(
    "name", ["x" * 300, "x" * 300 + ".yaml", "x/" * 3000 + "x", "loop", "fifo"]
)
def test_unusable_path_is_a_config_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError) as caught:
        load_config(name)
    assert caught.value.hint
    assert name in caught.value.problems[0] + str(caught.value.where)


@pytest.mark.parametrize("number", ["EACCES", "EIO", "ESTALE", "EMFILE", "ELOOP"])
@pytest.mark.parametrize("method", ["is_dir", "exists", "open"])
def test_every_failing_call_is_a_config_error(
    method: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "my.yaml"
    path.touch()

    target, name = (os, "open") if method == "open" else (Path, method)
    original = getattr(target, name)

    def fail(called: Path, *arguments: object) -> object:
        if called != path:
            return original(called, *arguments)
        code = getattr(errno, number)
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(target, name, fail)
    with pytest.raises(ConfigError, match="cannot be read: ") as caught:
        load_config(str(path))
    assert caught.value.where == str(path)
    assert caught.value.hint
