"""Translates options of other tools, and config keys typed as options, to options of ptblm."""

import re
import shlex

from ptblm.config.names_of_other_tools import answer, normalize, replacement
from ptblm.config.schema import NUMBER_OR_SECTION, SECTIONS, VARIANT_KEYS, Config
from ptblm.config.unknown_keys import sections_with_key

# Options of ptblm that set a config key.
_OPTIONS_OF_KEYS = {
    "data.path": "--data",
    "data.tokenizer": "--tokenizer",
    "training.seed": "--seed",
    "run.device": "--device",
    "run.precision": "--precision",
}


def translate(
    name: str, value: str | None, known: set[str], settable: tuple[str, ...] = ("",)
) -> list[str]:
    """Returns the options that replace an unknown option.

    Args:
        name: name of the option without dashes.
        value: value as typed, if any.
        known: the options of the command.
        settable: the keys that --set of the command can change; "" for all.

    Returns:
        The options with their values, quoted for a shell, such as
        ["--set training.epochs=3"]; empty if there is no replacement.
    """
    name = normalize(name)
    ours = replacement(name) or _own_key(name)
    if ours is None:
        return []
    if ours.startswith("--"):
        option, _, placeholder = ours.partition(" ")
        if option == "--run-dir" and value is not None:
            value = re.sub(r"\.(pt|pth|t7|h5|ckpt|model)$", "", value)  # ours is a directory
        words = [option, value or placeholder] if placeholder else [option]
        return [shlex.join(words)] if option in known else []
    converted = _converted(ours, name, value)
    option_of_key = _OPTIONS_OF_KEYS.get(ours)
    if option_of_key in known:
        return [shlex.join([option_of_key, converted])]
    if "--set" not in known or not ours.startswith(settable):
        return []
    return [f"--set {shlex.quote(text)}" for text in [*_variant(ours), f"{ours}={converted}"]]


def explain(name: str) -> str | None:
    """Returns what to use instead of an unknown option; None if there is nothing to explain."""
    name = normalize(name)
    if _own_key(name) is not None:
        return None
    sections = sections_with_key(name)
    return answer(name) or (f"it is a key of {' and '.join(sections)}" if sections else None)


def _own_key(name: str) -> str | None:
    """Returns the only key of ptblm with this name, as "section.key"; None if it is ambiguous."""
    keys = [f"{section}.{key}" for section, names in SECTIONS.items() for key in names]
    keys += [
        f"{'.'.join(map(str, path))}.{option}"
        for path, variants in VARIANT_KEYS.items()
        for option in {option for options in variants.options.values() for option in options}
    ]
    dropout = ".".join(map(str, NUMBER_OR_SECTION))
    # Names such as `input` say what they mean only after `model.dropout`.
    short = {key: "" if key.startswith(f"{dropout}.") else key.rpartition(".")[2] for key in keys}
    sections = SECTIONS.keys() - {dropout}
    found = [key for key in keys if name in (key, short[key]) and key not in sections]
    if dropout in found:  # rather than the option of a head
        return dropout
    return found[0] if len(found) == 1 else None


def _variant(key: str) -> list[str]:
    """Returns the override that chooses a variant with this option, unless the default has it."""
    parent, _, option = key.rpartition(".")
    variants = VARIANT_KEYS.get(tuple(parent.split(".")))
    if variants is None or option in variants.options[variants.default]:
        return []
    users = [name for name, options in variants.options.items() if option in options]
    return [f"{parent}={users[0]}"]


def _converted(key: str, name: str, value: str | None) -> str:
    """Returns the value of an option of another tool in the form that `key` expects."""
    if key == "run.device":
        return _device(name, value)
    if key == "run.precision":
        precision = (value or name).lower()
        if name == "dtype":
            return {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}.get(
                precision, precision
            )
        return "bf16" if name.startswith("b") else "fp16"
    constants = {"char_level": "char", "unit_forget_bias": "1.0", "plain": "false"}
    if name in constants:
        return constants[name]
    if value is None:
        default = _default(key)
        return "true" if isinstance(default, bool) else "VALUE"
    if name.startswith("keep_prob"):
        try:
            return f"{1 - float(value):.10g}"
        except ValueError:
            return value
    if key == "run.checkpoint_every" and value.isdecimal():
        return f"{value} steps"
    if key in ("model.cell", "training.optimizer", "training.schedule"):
        return value.lower().removesuffix("_tanh")
    return value


def _device(name: str, value: str | None) -> str:
    if name in ("no_cuda", "no_gpu", "cpu") or (value or "").startswith("-"):
        return "cpu"
    if name == "mps":
        return "mps"
    if name.startswith("accel"):
        return "auto"
    return f"cuda:{value}" if (value or "").isdecimal() and name != "cuda" else "cuda"


def _default(key: str) -> object:
    section: object = Config()
    for part in key.split("."):
        section = getattr(section, part, None)
    return section
