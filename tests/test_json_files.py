"""JSON from a stranger: bounded depth, memory and numbers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ptblm.json_files import JsonError, parse_json, read_json, write_json
from tests.conftest import plain_environment

# Each text is about 10 MB, and would take up to 400 MB as Python objects.
LARGE = {
    "lists": "[" + "[]," * 3_300_000 + "[]]",
    "dicts": "[" + "{}," * 3_300_000 + "{}]",
    "short strings": "[" + '"ab",' * 2_000_000 + '"ab"]',
    "numbers": "[" + "300," * 2_500_000 + "1]",
    "keys": "{" + ",".join(f'"{n}":1' for n in range(900_000)) + "}",
    "escapes": '"' + '\\"' * 5_000_000 + '"',
    "character of four bytes": '"' + "x" * 10_000_000 + '\U0001f600"',
    "escaped character of four bytes": '"' + "x" * 10_000_000 + '\\ud83d\\ude00"',
    "backslashes": '"' + "\\" * 10_000_000 + '"',
    "escaped characters": '"' + "\\u1234" * 1_600_000 + '"',
}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "occurs twice"),
        ('{"a": ' * 65 + "1" + "}" * 65, "nested too deeply"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply|too much memory"),
        ('{"a": ' + "9" * 21 + "}", "an integer of 21 digits"),
        ('{"a": ' + "9" * 100_000 + "}", "an integer of 100,000 digits"),
        ("[]", "not an object"),
        ("", "cannot be parsed"),
        (b"\xff", "cannot be parsed"),
        ('{"a": "\\', "cannot be parsed"),
    ],
    ids=range(9),
)
def test_text_is_rejected(text: str | bytes, message: str) -> None:
    with pytest.raises(JsonError, match=message):
        parse_json(text)


def test_text_within_the_bounds_is_parsed() -> None:
    deep = '{"a": ' * 64 + "12345678901234567890" + "}" * 64
    assert parse_json(deep) == json.loads(deep)
    escaped = {"a": "\\u0041 \\\\u0041", "b": "ä\U0001f600"}
    assert parse_json(json.dumps(escaped)) == escaped
    assert parse_json(json.dumps(escaped, ensure_ascii=False).encode()) == escaped
    tokens = {"tokens": ["[", "{", ",", '"', "\\"] * 1000, "counts": list(range(5000))}
    assert parse_json(json.dumps(tokens)) == tokens


@pytest.mark.parametrize("kind", LARGE)
def test_memory_is_bounded(kind: str, tmp_path: Path) -> None:
    """In a new process, whose peak memory is not that of another test."""
    path = tmp_path / "large.json"
    path.write_text('{"a": ' + LARGE[kind] + "}", encoding="utf-8")
    code = (
        "import sys; from ptblm.json_files import JsonError, parse_json\n"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "text = open(sys.argv[1], 'rb').read(); before = peak()\n"
        "try: parse_json(text)\n"
        "except JsonError as error: print(error, file=sys.stderr)\n"
        "print((peak() - before) * 1024)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, path], env=plain_environment(), capture_output=True, text=True
    )
    assert int(result.stdout) < 50_000_000 + 2 * path.stat().st_size, result.stderr


def test_file_that_is_too_large_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"a": "x" * 1_900_000})
    assert len(read_json(path)["a"]) == 1_900_000
    write_json(path, {"a": "x" * 2_100_000})
    assert read_json(path) == {}
