"""The documentation agrees with the code: commands, keys, links, files, generated blocks."""

import re
import shlex
import xml.etree.ElementTree as ElementTree
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from update_docs import DOCUMENTS, normalize, regenerate, write_file

from ptblm.api import Model
from ptblm.cli.commands import app
from ptblm.config.loading import load_config, validate
from ptblm.config.schema import SECTIONS, VARIANT_KEYS
from ptblm.config.yaml_document import parse_yaml
from ptblm.errors import ConfigError
from tests.conftest import REPOSITORY, load_script, plain_environment
from tests.new_process import run_command

PAGES = sorted(
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.md", "docs/*.md", "data/*.md")
    for path in REPOSITORY.glob(pattern)
)
MEASURED_TOLERANCE = 0.1  # of perplexities, between processors

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_KEY = re.compile(r"(?:--set )?((?:data|model|training|run)\.[\w.]+)(?:[=:].*)?")


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def without_fences(page: str) -> str:
    return _FENCE.sub("", read(page))


def fenced_commands(page: str) -> list[str]:
    """The ptblm command lines of fenced blocks, without prompts, comments, pipes, redirects."""
    lines = [line for _, block in _FENCE.findall(read(page)) for line in block.splitlines()]
    commands = [re.split(r"  +#|\s[|>]\s", line.removeprefix("$ "))[0].strip() for line in lines]
    return [command for command in commands if command.startswith("ptblm ")]


def run(directory: Path, command: str) -> str:
    """Runs a command in a directory, and returns its output on stdout and stderr."""
    arguments = shlex.split(command)[1:]
    done = run_command(arguments, cwd=directory, env=plain_environment(), merged=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def command_and_arguments(words: list[str]) -> tuple[Any, list[str]]:
    """Returns the command that the words after "ptblm" select, and its arguments."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


def is_key(name: str) -> bool:
    """Whether a dotted name is a config key, an option of any variant included."""
    parent, _, key = name.rpartition(".")
    if parent in SECTIONS:
        return key in SECTIONS[parent]
    variants = VARIANT_KEYS.get(tuple(parent.split(".")))
    return variants is not None and key in {"type"}.union(*variants.options.values())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_blocks_are_valid(page: str) -> None:
    for line in fenced_commands(page):
        command, arguments = command_and_arguments(shlex.split(line)[1:])
        if arguments == ["--install-completion"]:
            continue
        parameters = command.make_context(line, arguments).params
        config = str(parameters.get("config") or "small")
        if "config" in parameters:
            known = config if "/" not in config and "." not in config else "small"
            load_config(known, parameters["overrides"] or [])


@pytest.mark.parametrize("page", PAGES)
def test_inline_commands_and_keys_exist(page: str) -> None:
    for code in _INLINE.findall(without_fences(page)):
        if code.startswith("ptblm "):
            command, arguments = command_and_arguments(code.split()[1:])
            options = {name for parameter in command.params for name in parameter.opts}
            used = {word for word in arguments if word.startswith("--")}
            assert used <= options | {"--help", "--install-completion"}, code
        if key := _KEY.fullmatch(code):
            is_custom = page == "docs/custom-cells.md" and key[1].startswith("model.cell.")
            section, _, name = key[1].partition(".")
            is_method = page == "docs/api.md" and section == "model" and hasattr(Model, name)
            is_file = name in ("safetensors", "onnx")
            assert is_custom or is_method or is_file or is_key(key[1]), code


@pytest.mark.parametrize("page", PAGES)
def test_yaml_blocks_are_valid_configs(page: str) -> None:
    for language, block in _FENCE.findall(read(page)):
        if language == "yaml":
            validate(parse_yaml(block, page))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for link in _LINK.findall(without_fences(page)):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page: str) -> None:
    pattern = r"(?:ptblm|tests|scripts|docs|configs|examples|data/sample)/[\w./-]+"
    for name in re.findall(rf"(?<![\w/.])({pattern})(?![\w:*{{]|://)", without_fences(page)):
        assert (REPOSITORY / name.rstrip(".")).exists(), name


def test_contributing_names_existing_symbols() -> None:
    text = read("CONTRIBUTING.md")
    rows = re.findall(r"^\| .+\? \| (`ptblm/.+`) \| `(\w+)` \|$", text, re.MULTILINE)
    walks = re.findall(r"`(\w+)`\s+in\s+`(ptblm/[\w/]+\.py)`", text)
    assert len(rows) > 20
    assert len(walks) > 15
    places = [(name, file) for files, name in rows for file in re.findall(r"`([^`]+)`", files)]
    for name, file in [*places, *walks]:
        assert re.search(rf"\b{name}\b", read(file)), f"{file} does not contain {name}"


def test_readme_fits_on_a_few_screens() -> None:
    assert len(read("README.md").splitlines()) <= 120


@pytest.mark.parametrize("page", DOCUMENTS)
def test_generated_blocks_are_up_to_date(page: str, tmp_path: Path) -> None:
    text = read(page)
    new = regenerate(text, partial(run, tmp_path), partial(write_file, tmp_path))
    assert normalize(new) == normalize(text), "run `python scripts/update_docs.py`"
    measured = r"(?:perplexity|nats|bits|bound|floor) +\(?([\d.]+\d)"
    old_values, new_values = ([float(v) for v in re.findall(measured, t)] for t in (text, new))
    assert new_values == pytest.approx(old_values, rel=MEASURED_TOLERANCE)
    assert new_values or page != "README.md"


def test_picture_shows_the_current_output() -> None:
    picture = ElementTree.parse(REPOSITORY / "docs" / "run.svg").getroot()
    texts = ["".join(text.itertext()) for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    shown = set(normalize("\n".join(texts)).splitlines())
    output = read("README.md").partition("```text\n")[2].partition("```")[0]
    lines = [line for line in normalize(output).splitlines() if line]
    assert len(lines) > 15
    assert set(lines[1:]) <= shown  # without the command, which trains for fewer epochs


@pytest.fixture
def script() -> ModuleType:
    return load_script("update_docs")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("output: ptblm x", "```text\n$ ptblm x\nran ptblm x\n```\n"),
        ("example: ptblm x", "```text\n$ ptblm x\nran ptblm x\n```\n"),
        ("run: ptblm x", "```\nptblm x\n```\n"),
        ("keys: data", "| `data.tokenizer` | `word` |"),
        ("variants: training.optimizer", "| | `beta1: 0.9` |"),
        ("options: config show", "| `NAME\\|FILE` |"),
    ],
)
def test_blocks_are_regenerated(script: ModuleType, block: str, expected: str) -> None:
    text = f"before\n<!-- {block} -->\nold\n<!-- end -->\nafter\n"
    new = script.regenerate(text, lambda command: f"ran {command}\n")
    assert expected in new
    assert "old" not in new
    assert new.startswith(f"before\n<!-- {block} -->\n")
    assert new.endswith("<!-- end -->\nafter\n")


def test_files_are_written_for_the_commands(script: ModuleType) -> None:
    text = "<!-- file: a.txt -->\n```text\none\ntwo\n```\n<!-- end -->\n"
    written: dict[str, str] = {}
    assert script.regenerate(text, str, written.__setitem__) == text
    assert written == {"a.txt": "one\ntwo\n"}


def test_output_of_examples_may_differ(script: ModuleType) -> None:
    text = "<!-- example: ptblm x -->\n```text\n$ ptblm x\n{}\n```\n<!-- end -->\n"
    assert script.normalize(text.format("one")) == script.normalize(text.format("two"))
    assert script.normalize(text) != script.normalize(text.replace("example: ptblm x", "x"))


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "ptblm train --config test --data sample --run-dir runs/small-sample")
    monkeypatch.chdir(tmp_path)
    blocks = [block for language, block in _FENCE.findall(read("docs/api.md")) if language]
    assert len(blocks) > 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)


def test_normalize_masks_measurements_only(script: ModuleType) -> None:
    rows = "    6   0.25   11.71   12.12   1.8     22,520   3.6 *\nperplexity 11.7, step 594\n"
    slower = "    6   0.25   11.80   12.20   10.9   2,520   3.61\nperplexity 11.9, step 594\n"
    progress = "epoch 6/13: 29 of 99, perplexity 11.83, 0:20 left (run 2:05), 5,040 tokens/s\n"
    assert script.normalize(rows) == script.normalize(progress + slower)
    for old, new in (("594", "595"), ("    6", "    7"), ("perplexity", "bits")):
        assert script.normalize(rows) != script.normalize(rows.replace(old, new))


def test_wrong_keys_and_commands_would_be_found() -> None:
    assert is_key("training.schedule.decay")
    assert not is_key("training.schedule.beta1")
    assert not is_key("training.hidden_size")
    with pytest.raises(ConfigError):
        validate(parse_yaml("model: {hiden_size: 3}", "page"))
    command, arguments = command_and_arguments(["train", "--level", "char"])
    with pytest.raises(typer.exceptions.TyperException):
        command.make_context("train", arguments)


@pytest.mark.parametrize("page", PAGES)
def test_page_has_no_placeholder(page: str) -> None:
    assert "TODO" not in read(page)
