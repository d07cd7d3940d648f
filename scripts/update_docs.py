"""Regenerates the parts of the documentation that are derived from the code.

    python scripts/update_docs.py            # rewrites the marked blocks
    python scripts/update_docs.py --check    # exit code 1 if a block is out of date

A marked block starts with one of these comments and ends with `<!-- end -->`:

    <!-- output: ptblm COMMAND -->    the command and its output
    <!-- example: ptblm COMMAND -->   the same, but the output may differ between machines
    <!-- run: ptblm COMMAND -->       the command without its output
    <!-- file: NAME -->               a text file for the commands that follow
    <!-- options: COMMAND -->         table of the options of a command
    <!-- keys: SECTION -->            table of the config keys of a section
    <!-- variants: SECTION.KEY -->    table of the variants of a key and their options

The commands of a document run in order in one empty directory. Rounding and times differ between
machines, so `normalize` masks perplexities, times and the output of examples for the check.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, get_args

import typer

from ptblm.cli.commands import app
from ptblm.config.schema import SECTIONS, Config
from ptblm.config.section import Variant

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = ["README.md", "docs/guide.md"]

_BLOCK = re.compile(
    r"(<!-- (?P<kind>output|example|run|file|options|keys|variants): (?P<subject>.+?) -->\n)"
    r"(?P<content>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


def regenerate(
    text: str, run: Callable[[str], str], write: Callable[[str, str], object] = lambda *_: None
) -> str:
    """Returns a document with all marked blocks regenerated.

    Args:
        text: the document.
        run: runs a command and returns its output.
        write: writes a file, given its name and its content.
    """

    def block(match: re.Match[str]) -> str:
        subject = match["subject"]
        match match["kind"]:
            case "output" | "example":
                content = f"```text\n$ {subject}\n{run(subject)}```\n"
            case "run":
                content = f"```\n{subject}\n```\n"
                run(subject)
            case "file":
                content = match["content"]
                write(subject, content.partition("\n")[2].rpartition("```")[0])
            case "options":
                content = options_table(subject)
            case "keys":
                content = keys_table(subject)
            case _:
                content = variants_table(*subject.split("."))
        return match[1] + content + match["end"]

    return _BLOCK.sub(block, text)


def run_command(directory: Path, command: str) -> str:
    """Runs a ptblm command and returns its output on stdout and stderr.

    Raises:
        subprocess.CalledProcessError: if the command fails.
    """
    arguments = [sys.executable, "-m", "ptblm", *shlex.split(command)[1:]]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "NO_COLOR": "1", "COLUMNS": "100"}
    done = subprocess.run(  # noqa: S603 - commands are from this repository
        arguments,
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def write_file(directory: Path, name: str, content: str) -> None:
    """Writes a text file."""
    (directory / name).write_text(content, encoding="utf-8")


def options_table(name: str) -> str:
    """Returns a Markdown table of the options of a command, such as "config show"."""
    command: Any = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]
    rows = []
    for parameter in command.params:
        is_option = parameter.opts[0].startswith("-")
        metavar = parameter.metavar
        if metavar is None and not parameter.is_flag:
            annotation = parameter.type_descriptor.annotation
            metavar = "|".join(get_args(annotation)) or annotation.__name__.upper()
        names = ", ".join(parameter.opts) if is_option else ""
        usage = " ".join(part for part in (names, metavar) if part)
        default = getattr(parameter, "show_default", None)
        if not isinstance(default, str) and not getattr(parameter, "is_flag", False):
            default = None if parameter.default is None else str(parameter.default)
        meaning = _escape(getattr(parameter, "help", None) or "")
        if isinstance(default, str):
            meaning += f" Default: `{default}`."
        rows.append([_code(usage), meaning.strip()])
    return _table(["option", "meaning"], rows)


def keys_table(section: str) -> str:
    """Returns a Markdown table of the keys of a section with their defaults."""
    return _table(["key", "default", "meaning"], list(_key_rows(section)))


def _key_rows(section: str) -> Iterator[list[str]]:
    """Yields the rows of the keys of a section and of the sections in it."""
    defaults = attrgetter(section)(Config())
    for key, field in type(defaults).model_fields.items():
        name, value = f"{section}.{key}", getattr(defaults, key)
        if name in SECTIONS:
            yield from _key_rows(name)
        else:
            shown = value.type if isinstance(value, Variant) else value
            yield [_code(name), _code(_yaml(shown)), _escape(field.description or "")]


def variants_table(section: str, key: str) -> str:
    """Returns a Markdown table of the variants of a key, such as training.optimizer."""
    field = type(getattr(Config(), section)).model_fields[key]
    classes = [get_args(member)[0] for member in get_args(field.annotation)]
    rows = []
    for variant in classes:
        if variant.model_fields["type"].is_required():
            continue
        summary = (variant.__doc__ or "").splitlines()[0]
        rows.append([_code(variant.model_fields["type"].default), "", _escape(summary)])
        for name, option in list(variant.model_fields.items())[1:]:
            shown = _code(f"{name}: {_yaml(option.default)}")
            rows.append(["", shown, _escape(option.description or "")])
    return _table([_code(key), "options and defaults", "meaning"], rows)


def normalize(text: str) -> str:
    """Masks what differs between machines: decimals, speeds, progress, best epochs, devices."""
    text = re.sub(r"(?s)(<!-- example: [^\n]+\n).*?(<!-- end -->)", r"\1\2", text)
    # Progress, printed in a run that takes long.
    text = re.sub(r"(?m)^[\w /]+: [\d,]+ of [\d,]+, perplexity .*\n", "", text)
    text = re.sub(r"(?m)^( *device +).*$", r"\1#", text)
    text = re.sub(r"(?m)^( +\d+ +\S+) +\d.*$", r"\1 #", text)  # columns after the learning rate
    text = re.sub(r"(?<![\w.])[\d,]+\.\d+(?![\w.])", "#", text)
    text = re.sub("[▁▂▃▄▅▆▇█]+", "#", text)
    return re.sub(r" +", " ", text)


def _yaml(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _code(text: str) -> str:
    return f"`{_escape(text)}`"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n".replace("|  |", "| |") for line in lines)


def main() -> int:
    """Rewrites or checks the documents and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="check only; do not change files")
    check = parser.parse_args().check
    outdated = []
    for name in DOCUMENTS:
        path = REPOSITORY / name
        before = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as directory:
            place = Path(directory)
            after = regenerate(before, partial(run_command, place), partial(write_file, place))
        if normalize(after) != normalize(before):
            outdated.append(name)
        if not check:
            path.write_text(after, encoding="utf-8")
    if check and outdated:
        print(f"out of date: {', '.join(outdated)}", file=sys.stderr)
        print("  try: python scripts/update_docs.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
