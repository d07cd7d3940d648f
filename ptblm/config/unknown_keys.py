"""Explains unknown keys: names of other tools, former names, misplaced and misspelled keys."""

from collections.abc import Iterable
from difflib import SequenceMatcher

from ptblm.config import names_of_other_tools
from ptblm.config.schema import SECTIONS, VARIANT_KEYS, Config
from ptblm.config.yaml_document import KeyPath

# Variants of other tools that resemble one of ptblm but are not misspellings of it.
_OTHER_VARIANTS = {"asgd", "radam", "adamp", "qlstm", "mlstm", "xlstm", "mgru"}


def explain_unknown_key(path: KeyPath, variant: str | None, listed: set[KeyPath]) -> str:
    """Returns a message for the unknown key at `path` that suggests the intended key.

    Args:
        path: path of the key, such as ("model", "cell", "reset_gate").
        variant: name of the variant that lacks the option; None if the key is not an option.
        listed: sections whose keys a message of this report already lists; modified in place.
    """
    key, parent = str(path[-1]), path[:-1]
    if variant is not None:
        kind, variants = parent[-1], VARIANT_KEYS[parent].options
        users = [name for name, options in variants.items() if key in options]
        if users:
            return f"unknown key for {kind} '{variant}'; it is an option of {', '.join(users)}"
        siblings = variants[variant]
        unknown = f"unknown key for {kind} '{variant}'"
        listing = f"its options are {', '.join(siblings)}" if siblings else "it has no options"
    else:
        siblings = SECTIONS.get(_dotted(parent), list(Config.model_fields))
        unknown, listing = "unknown key", f"the keys here are {', '.join(siblings)}"
    answer = names_of_other_tools.answer(key)
    if answer is not None:
        return f"unknown key; {answer}"
    found = sections_with_key(key)
    if found:
        return f"unknown key here; it belongs in {' or '.join(found)}"
    guess = closest(key, siblings)
    if guess is not None:
        return f"unknown key, did you mean '{guess}'?"
    if parent in listed:
        return unknown
    listed.add(parent)
    return f"{unknown}; {listing}"


def sections_with_key(key: str) -> list[str]:
    """Returns the sections and variants, in quotes, that have a key of this name."""
    found = [f"'{section}'" for section, keys in SECTIONS.items() if key in keys]
    for path, variant_key in VARIANT_KEYS.items():
        users = [name for name, options in variant_key.options.items() if key in options]
        if users:
            found.append(f"'{_dotted(path)}' (option of {', '.join(users)})")
    return found


def explain_unknown_variant(path: KeyPath, name: str) -> tuple[str, str]:
    """Returns the variants that the key at `path` accepts, and the one closest to `name`."""
    names = list(VARIANT_KEYS[path].options)
    custom = " or my_module:MyCell (a class in my_module.py)" if path[-1] == "cell" else ""
    choices = ", ".join(names[:-1]) + (", " if custom else " or ") + names[-1] + custom
    name = name.lower()
    expected = f"expected {choices}"
    if name in _OTHER_VARIANTS:
        answer = names_of_other_tools.answer(name)
        return expected, f"; {answer}" if answer else ""
    nearest = closest(name, names)
    return expected, f"; did you mean '{nearest}'?" if nearest else ""


def closest(name: str, names: Iterable[str]) -> str | None:
    """Returns the name that `name` is a misspelling of; None if it is too different from all.

    A misspelling has one typing error, or two in a name of eight or more characters. Typing errors
    are a missing, additional, wrong, or swapped character. `steps` for `num_steps` is a different
    word, not a misspelling.
    """
    allowed = 0 if len(name) < 3 else 1 if len(name) < 8 else 2
    errors = {other: _typing_errors(name, other) for other in names}
    misspelled = [other for other in errors if errors[other] <= allowed]
    # Of two equally close names, the one with more common characters.
    return min(
        misspelled,
        key=lambda other: (errors[other], -SequenceMatcher(None, name, other).ratio()),
        default=None,
    )


def _typing_errors(typed: str, name: str) -> int:
    """Returns the optimal string alignment distance of two strings of similar length."""
    if abs(len(typed) - len(name)) > 2:
        return abs(len(typed) - len(name))
    rows = [list(range(len(name) + 1))]
    for i, a in enumerate(typed, 1):
        row = [i]
        for j, b in enumerate(name, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b))
            if i > 1 and j > 1 and a == name[j - 2] and b == typed[i - 2]:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)
