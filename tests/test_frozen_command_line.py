"""The command line is frozen: a change to commands, options or defaults must be deliberate.

After such a change, rewrite the frozen description and commit it with the change:

    python -m tests.test_frozen_command_line
"""

import json
from pathlib import Path
from typing import Any

import typer

from ptblm.cli.main import app

FROZEN = Path(__file__).parent / "command_line.json"


def describe(command: Any) -> dict[str, Any]:
    """Commands, options, arguments, types and defaults as plain data, without help texts."""
    description: dict[str, Any] = {
        "parameters": {
            parameter.name: {
                "names": [*parameter.opts, *parameter.secondary_opts],
                "type": parameter.type.name,
                "choices": [str(choice) for choice in getattr(parameter.type, "choices", [])],
                "metavar": parameter.metavar,
                "required": parameter.required,
                "repeatable": parameter.multiple if hasattr(parameter, "multiple") else False,
                "default": parameter.default,
                "shown default": getattr(parameter, "show_default", None),
            }
            for parameter in command.params
            if parameter.name not in ("install_completion", "show_completion")
        }
    }
    if hasattr(command, "commands"):
        description["commands"] = {
            name: describe(subcommand) for name, subcommand in sorted(command.commands.items())
        }
    return description


def current() -> str:
    return json.dumps(describe(typer.main.get_command(app)), indent=1, default=str) + "\n"


def test_command_line_is_frozen() -> None:
    assert json.loads(current()) == json.loads(FROZEN.read_text(encoding="utf-8")), (
        "the command line changed; if that is intended, run "
        "`python -m tests.test_frozen_command_line` and commit tests/command_line.json"
    )


def test_description_contains_every_command_and_option() -> None:
    commands = json.loads(FROZEN.read_text(encoding="utf-8"))["commands"]
    assert set(commands) == {"train", "eval", "download-data", "config", "checkpoint"}
    train = commands["train"]["parameters"]
    assert train["resume"]["names"] == ["--resume"]
    assert train["precision"]["choices"] == ["fp32", "tf32", "bf16", "fp16"]
    assert train["overrides"]["repeatable"]


if __name__ == "__main__":
    FROZEN.write_text(current(), encoding="utf-8")
