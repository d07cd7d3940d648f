"""Control characters from files, servers, paths and arguments never reach the terminal."""

import ast
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ptblm.cli.output import print_error, print_json, print_traceback
from ptblm.errors import ConfigError
from ptblm.progress_bar import ProgressBar
from ptblm.terminal import escape
from tests.conftest import FAST, REPOSITORY
from tests.in_process import ptblm
from tests.run.sweep_files import write_sweep

# A character of each kind that must not reach a terminal, then a forged line.
EVIL = "e\x1b[2J\r\x07\t\x9b\u202e\u2028\u2029\x85\x7f\x00\nerror: forged"
NAME = EVIL.replace("\x00", "")  # for paths and arguments


# Commands that print tab-separated values.
TABLES = {"score", "generate", "rescore"}


def check(*streams: str) -> str:
    """Checks that only newlines of ptblm were printed, and returns what was printed."""
    for line in "".join(streams).split("\n"):
        assert line.isprintable(), line
        assert not line.startswith("error: forged")
    return "".join(streams)


def run(*arguments: object) -> str:
    """Runs a command and returns its checked output."""
    _, errors, output = ptblm(*arguments)
    assert "Traceback" not in errors or "--debug" in arguments, errors
    if arguments[0] in TABLES:
        output = output.replace("\t", " ")
    return check(errors, output)


def test_escape() -> None:
    assert escape(EVIL) == (r"e\x1b[2J\r\x07\t\x9b\u202e\u2028\u2029\x85\x7f\x00\nerror: forged")
    assert escape("a\udcff\U000e0001") == r"a\udcff\U000e0001"
    assert escape(r"naïve 日本 \x1b") == r"naïve 日本 \x1b"


@pytest.mark.usefixtures("in_directory")
def test_long_text_of_a_file_is_shortened() -> None:
    Path("c.yaml").write_text(f"data: {{path: '{'x' * 500_000}'}}\n")
    errors = run("train", "--config", "c.yaml")
    assert "more characters)" in errors
    assert len(errors) < 50_000


@pytest.fixture
def corpus(in_directory: Path) -> Path:
    """A corpus with an odd name and odd words; the current directory is its parent."""
    directory = in_directory / f"corpus{NAME}"
    directory.mkdir()
    words = f"the cat \x1b[2J\x9b\u202e\x07 sat {NAME.split(chr(10))[0]} on the mat\n"
    for split in ("train", "valid", "test"):
        (directory / f"{split}.txt").write_text(words * 40)
    return directory


@pytest.mark.parametrize("debug", [[], ["--debug"]])
@pytest.mark.usefixtures("in_directory")
def test_keys_and_values_of_a_config(debug: list[str]) -> None:
    quoted = json.dumps(EVIL)
    for text in (
        f"{quoted}: 1",
        f"model: {{{quoted}: 1, cell: {quoted}}}",
        f"data: {{path: {quoted}, tokenizer: {quoted}, encoding: {quoted}}}",
        f"run: {{device: {quoted}}}\n{quoted}: 1\n{quoted}: 2",
        f"model: !{quoted} 1",
        "model: \x1b[2J",
        f"model: [{quoted}",
    ):
        Path("my.yaml").write_text(text, encoding="utf-8")
        assert "error: " in run(*debug, "config", "show", "my.yaml")
    Path("my.yaml").write_text(f"data: {{path: {json.dumps(NAME)}}}", encoding="utf-8")
    shown = run("config", "show", "my.yaml")
    Path("my.yaml").write_text(shown, encoding="utf-8")
    assert run("config", "show", "my.yaml") == shown


@pytest.mark.parametrize(
    "command",
    [
        *("train --config", "train --data", "train --resume", "train --init", "train --set"),
        *("train --device", "train --precision", "train --tokenizer", "train --seed", "train"),
        *("eval", "eval x --text", "eval x --split", "eval x --set", "config show", "config"),
        *(
            "eval x --settings",
            "eval x --cache",
            "eval x --dynamic",
            "tune-eval",
            "tune-eval x --to",
        ),
        *("score x", "score x --table", "score x --columns", "generate x --prompt-file", "pairs x"),
        *("rescore x --format kaldi", "rescore x y --format", "import", "import x --vocab"),
        *("export --to onnx", "export x --to", "export x --to safetensors -o y/"),
        *("report", "report x --to", "report x --data"),
        *("compare", "compare x --against", "compare x --sort", "compare x --data y"),
        *("sweep run", "sweep run x --dir", "sweep show", "sweep show x --to", "sweep best"),
        *("plot", "plot x --to", "plot x --panels", "plot x --x"),
        *("checkpoint show", "checkpoint verify", "download-data --url", "download-data --from"),
        *("train --data sample --dry-run --set model.cell=x --set", "--debug eval", "--no"),
    ],
)
@pytest.mark.parametrize("suffix", ["", "/x", "=1", ".yaml"])
@pytest.mark.usefixtures("in_directory")
def test_arguments(command: str, suffix: str) -> None:
    assert run(*command.split(), NAME + suffix)


@pytest.mark.usefixtures("in_directory")
def test_names_and_notes_of_a_sweep() -> None:
    directory = write_sweep(Path(f"sweep{NAME}"), note=EVIL)
    (directory / "trial-00002.yaml").write_text(f"model: {{cell: {json.dumps(EVIL)}}}\n")
    assert "forged" in run("sweep", "show", directory)
    assert "error: " in run("sweep", "best", directory)
    for form in ("csv", "json", "md", "latex"):
        assert run("sweep", "show", directory, "--format", form)


def test_words_paths_and_run_directories(corpus: Path) -> None:
    run_dir = f"run{NAME}"
    trained = run("train", "--data", corpus.name, "--run-dir", run_dir, *FAST)
    assert "test perplexity" in trained
    assert r"\x1b[2J" in trained
    for arguments in (
        ["eval", run_dir],
        ["eval", run_dir, "--json"],
        ["eval", run_dir, "--text", f"{corpus.name}/test.txt"],
        ["tune-eval", run_dir, "--max-tokens", 20, "--to", f"settings{NAME}"],
        ["tune-eval", run_dir, "--max-tokens", 20, "--json"],
        ["eval", run_dir, "--settings", f"settings{NAME}"],
        ["score", run_dir, f"{corpus.name}/test.txt"],
        ["generate", run_dir, "--prompt", NAME, "--samples", 3, "--format", "tsv"],
        ["generate", run_dir, "--samples", 3, "--format", "jsonl"],
        ["compare", run_dir, "--against", run_dir, "--data", corpus.name],
        ["compare", run_dir, "--format", "csv"],
        ["export", run_dir, "--to", "safetensors"],
        ["report", run_dir, "--data", corpus.name],
        ["plot", run_dir, "--panels=speed", "--to", f"plot{NAME}.svg"],
        ["checkpoint", "show", run_dir],
        ["checkpoint", "verify", run_dir],
        ["train", "--resume", run_dir, "--set", "training.epochs=3"],
        ["train", "--data", corpus.name, "--run-dir", run_dir, *FAST],
        ["train", "--data", corpus.name, "--dry-run", *FAST],
        ["train", "--data", corpus.name, "--set", "data.vocabulary.closed=true", *FAST],
    ):
        assert run(*arguments)
    for form in ("jsonl", "words", "sentences", "neural-complexity", "srilm", "kenlm"):
        assert run("score", run_dir, f"{corpus.name}/test.txt", "--format", form)
    result = ptblm("eval", run_dir, "--json")[2]
    assert NAME in json.loads(result)["checkpoint"]


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server whose status line contains control characters."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reason = "no\x1b[2J\x9b\x07such\rerror: forged"
            self.wfile.write(f"HTTP/1.0 404 {reason}\r\n\r\n".encode("latin-1"))

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.usefixtures("in_directory")
def test_answer_of_a_server(server: str) -> None:
    assert "404" in run("download-data", "--to", "out", "--url", f"{server}/x.tgz")


def test_traceback_keeps_the_lines_of_code_only(capsys: pytest.CaptureFixture[str]) -> None:
    evil_frame = compile("raise ValueError(EVIL)", NAME, "exec")
    try:
        try:
            exec(evil_frame)
        except ValueError as error:
            raise ConfigError([EVIL, "second"], where=EVIL, hint=EVIL) from error
    except ConfigError as error:
        print_traceback(error)
        print_error(error)
    lines = check(capsys.readouterr().err).splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[2] == "    exec(evil_frame)"
    assert lines[3].startswith(f'  File "{escape(NAME)}", line 1')
    assert sum(line.startswith("error: ") for line in lines) == 2


def test_progress_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    ProgressBar(100, stream=stream).show(1, [EVIL, "second"])
    assert "forged" in check(stream.getvalue().replace("\r", "").replace("\x1b[K", ""))


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": EVIL})
    assert json.loads(check(capsys.readouterr().out)) == {"text": EVIL}


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "ptblm").rglob("*.py")), ids=lambda path: path.stem
)
def test_nothing_else_prints(path: Path) -> None:
    if path.name == "terminal.py" or "reference" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            assert name not in ("print", "echo", "secho", "print_exc", "print_exception"), path
        if isinstance(node, ast.Attribute) and node.attr == "write":
            assert ast.unparse(node.value) not in ("sys.stdout", "sys.stderr", "os"), path
