"""The command line is frozen: a change to commands, options or defaults must be deliberate.

After such a change, rewrite the frozen description and commit it with the change:

    python -m tests.test_frozen_command_line
"""

import inspect
import json
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from ptblm.cli.commands import app

FROZEN = Path(__file__).parent / "command_line.json"


def describe(app: typer.Typer, prefix: str = "") -> dict[str, Any]:
    """All commands with their parameters as plain data, without help texts."""
    commands: dict[str, Any] = {}
    if app.registered_callback is not None and app.registered_callback.callback is not None:
        commands[prefix.strip()] = parameters(app.registered_callback.callback)
    for command in app.registered_commands:
        assert command.callback is not None
        commands[f"{prefix}{command.name}"] = parameters(command.callback)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        commands |= describe(group.typer_instance, f"{prefix}{group.name} ")
    return commands


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The names, type, metavar and default of each option or argument."""
    described = {}
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        kind, info = typing.get_args(parameter.annotation)
        required = parameter.default is inspect.Parameter.empty
        # In Annotated, Typer takes the first name as `default`.
        declared = (info.default, *(info.param_decls or ()))
        names = [text for text in declared if isinstance(text, str) and text.startswith("-")]
        described[name] = {
            "kind": type(info).__name__.removesuffix("Info").lower(),
            "names": names or [f"--{name.replace('_', '-')}"],
            "type": type_name(kind),
            "metavar": info.metavar,
            "default": "required" if required else parameter.default,
            "shown default": info.show_default,
        }
    return described


def type_name(kind: Any) -> str:
    """The name of a type, which does not depend on the version of Python."""
    arguments = typing.get_args(kind)
    if not arguments:
        return "None" if kind is type(None) else str(getattr(kind, "__name__", kind))
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, arguments))
    names = ", ".join(map(type_name, arguments))
    return f"{getattr(typing.get_origin(kind), '__name__', 'union').lower()}[{names}]".replace(
        "uniontype", "union"
    ).replace("optional", "union")


def test_command_line_is_frozen() -> None:
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    assert describe(app) == frozen, (
        "the command line changed; if that is intended, run "
        "`python -m tests.test_frozen_command_line` and commit tests/command_line.json"
    )


def test_description_contains_commands_and_options() -> None:
    commands = describe(app)
    assert {"", "train", "eval", "download-data", "config show"} <= set(commands)
    assert {"checkpoint show", "checkpoint verify", "config list"} <= set(commands)
    assert commands["train"]["resume"]["names"] == ["--resume"]
    assert "fp16" in commands["train"]["precision"]["type"]
    assert commands["eval"]["checkpoints"]["default"] == "required"


if __name__ == "__main__":
    FROZEN.write_text(json.dumps(describe(app), indent=1) + "\n", encoding="utf-8")
