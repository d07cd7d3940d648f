"""Rewords errors of the command-line parser and names the option or key of ptblm to use.

Many options of other tools are config keys of ptblm. For `--epochs 3`, the hint is to pass
`--set training.epochs=3`.
"""

import os.path
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import typer
from typer._click.exceptions import BadParameter, ClickException, NoSuchOption

from ptblm.errors import UsageError


class _Option(NamedTuple):
    """An option as typed.

    Attributes:
        name: its name with dashes.
        value: its value; None if there is none.
        parameter: the parameter of the command; None if the option is unknown.
    """

    name: str
    value: str | None
    parameter: Any


def reword(error: ClickException, arguments: Sequence[str]) -> UsageError:
    """Returns an error of the command-line parser as an error of ptblm.

    Args:
        error: the error.
        arguments: the command line without the name of the program.
    """
    context = getattr(error, "ctx", None)
    if context is None:
        see_help = f"see `{' '.join(['ptblm', *_typed_path(arguments)])} --help`"
        return UsageError(_sentence(error.format_message()), hint=see_help)
    path, words = _command_path(context), list(arguments)
    for name in path:
        words = words[words.index(name) + 1 :] if name in words else words
    command = context.command
    see_help = f"see `{' '.join(['ptblm', *path])} --help`"
    if isinstance(error, NoSuchOption):
        if path and error.option_name in _global_options(context):
            before = shlex.join(["ptblm", error.option_name, *path])
            return UsageError(
                f"{error.option_name} belongs before the command",
                hint=f"pass it as in `{before} ...`",
            )
        if path:
            return _unknown_options(
                error.option_name, words, command.name, command.params, "", see_help
            )
        train = command.commands["train"]  # an option before the command
        parameters = [*command.params, *train.params]
        return _unknown_options(
            error.option_name, words, train.name, parameters, "ptblm train ", see_help
        )
    extra = re.search(r"unexpected extra argument.* \((.*)\)", error.message)
    if extra is not None:
        # `-clip 5` is parsed as `-c lip 5`.
        from ptblm.cli.foreign_options import explain

        unknown = [o for o in _options(words, command.params) if o.parameter is None]
        if any(explain(option.name.lstrip("-")) for option in unknown):
            return _unknown_options(
                unknown[0].name, words, command.name, command.params, "", see_help
            )
        options = [_option_for(word, command.params) for word in extra[1].split()]
        guess = None if None in options else f"did you mean {' '.join(map(str, options))}?"
        return UsageError(f"unexpected argument: {extra[1]}", hint=guess or see_help)
    if isinstance(error, BadParameter) and error.param is not None and error.message:
        typed = [o.value for o in _options(words, command.params) if o.parameter is error.param]
        problem = error.message.removeprefix("Value error, ").removesuffix(".")
        if "valid integer" in problem and typed:
            problem = f"expected a whole number, got '{typed[-1]}'"
        name = error.param.opts[0]
        shown = name if name.startswith("-") else error.param.metavar
        return UsageError(f"{shown}: {problem}", hint=see_help)
    return UsageError(_sentence(error.format_message()), hint=see_help)


def _global_options(context: Any) -> set[str]:
    """Returns the options that come before a command."""
    return {name for option in context.find_root().command.params for name in option.opts}


def _command_path(context: Any) -> list[str]:
    """Returns the names of the command and its group, without the name of the program."""
    names: list[str] = []
    while context.parent is not None:
        names.insert(0, context.info_name)
        context = context.parent
    return names


def _typed_path(arguments: Sequence[str]) -> list[str]:
    """Returns the names of the command and its group at the start of a command line."""
    from ptblm.cli.commands import app

    command: Any = typer.main.get_command(app)
    path: list[str] = []
    for word in arguments:
        commands = getattr(command, "commands", {})
        if word in commands:
            command = commands[word]
            path.append(word)
        elif not _is_option(word):
            break
    return path


def _options(words: Sequence[str], parameters: Sequence[Any]) -> Iterator[_Option]:
    """Yields the options of a command line, in order."""
    known = {name: parameter for parameter in parameters for name in parameter.opts}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not _is_option(word):
            continue
        name, equals, value = word.partition("=")
        parameter = known.get(name)
        takes_no_value = parameter is not None and parameter.is_flag
        if equals:
            yield _Option(name, value, parameter)
        elif takes_no_value or not rest or _is_option(rest[0]):
            yield _Option(name, None, parameter)
        else:
            yield _Option(name, rest.pop(0), parameter)


def _is_option(word: str) -> bool:
    return re.match(r"--?[A-Za-z]", word) is not None


def _unknown_options(
    reported: str,
    words: Sequence[str],
    command: str | None,
    parameters: Sequence[Any],
    prefix: str,
    see_help: str,
) -> UsageError:
    """Returns an error that explains all unknown options of a command line.

    Args:
        reported: the option that the parser has reported; one letter of an option with one dash.
        words: the arguments of the command.
        command: the name of the command.
        parameters: the parameters of the command.
        prefix: start of the hint: the command, if it is missing.
        see_help: hint if there is no other.
    """
    from ptblm.cli.foreign_options import explain, translate
    from ptblm.config.unknown_keys import closest

    known = {name for parameter in parameters for name in parameter.opts}
    settable: tuple[str, ...] = ("",)
    if command in ("eval", "score", "tune-eval"):  # which change how a text is read
        from ptblm.run.text_config import OVERRIDABLE

        settable = OVERRIDABLE
    problems, hints = [], []
    for option in _options(words, parameters):
        if option.parameter is not None and not prefix:
            continue
        name = option.name.lstrip("-")
        replaced = translate(name, option.value, known, settable)
        guess = None if replaced else closest(option.name, known)
        if option.parameter is not None or (guess is not None and explain(name) is None):
            value = [] if option.value is None else [option.value]
            replaced = [shlex.join([guess or option.name, *value])]
        hints += [hint for hint in replaced if hint not in hints]
        if option.parameter is None:
            explanation = explain(name)
            problems.append(
                f"no such option: {option.name}" + (f"; {explanation}" if explanation else "")
            )
    return UsageError(
        problems or [f"no such option: {reported}"],
        hint=f"pass {prefix}{' '.join(hints)}" if hints else see_help,
    )


def _option_for(word: str, parameters: Sequence[Any]) -> str | None:
    """Returns the option that an argument without option is probably meant for."""
    from ptblm.config.loading import shipped_configs
    from ptblm.corpus.datasets import DATASETS
    from ptblm.paths import expand_path

    known = {name for parameter in parameters for name in parameter.opts}
    path = expand_path(word)  # os.path, unlike Path, never raises OSError
    if word in shipped_configs() or path.suffix in (".yaml", ".yml"):
        option = "--config"
    elif os.path.isdir(path / "checkpoints") or path.suffix == ".safetensors":
        option = "--resume"
    elif word in (*DATASETS, "sample") or os.path.exists(path):
        option = "--data"
    elif re.match(r"[a-z_]+(\.[a-z_]+)+=", word):
        option = "--set"
    else:
        return None
    return shlex.join([option, word]) if option in known else None


def _sentence(message: str) -> str:
    """Returns a message of the parser without capital letter and final period."""
    return message[:1].lower() + message[1:].removesuffix(".")
