"""Explains unknown keys: tutorial names, former names, misplaced and misspelled keys."""

import difflib
from collections.abc import Iterable

from ptblm.config.schema import SECTIONS, VARIANT_KEYS, KeyPath

# Names from the TensorFlow tutorial (ptb_word_lm.py) and former ptblm names, each with a hint that
# names the current key.
OTHER_NAMES = {
    "max_epoch": "use 'training.schedule.full_rate_epochs' (schedule tutorial)",
    "max_max_epoch": "use 'training.epochs'",
    "keep_prob": "use 'model.dropout', which is 1 - keep_prob",
    "lr_decay": "use 'training.schedule.decay' (schedules tutorial and plateau)",
    "vocab_size": "the size of the vocabulary is taken from the training text",
    "data_path": "use 'data.path'",
    "use_fp16": "use 'run.precision: fp16'",
    "save_path": "use the option --run-dir",
    "rnn_mode": "the fastest exact implementation is chosen automatically",
    "level": "use 'data.tokenizer'",
    "janet_beta": "use 'model.cell.beta' (cell janet)",
    "mogrifier_rounds": "use 'model.cell.rounds' (cell mogrifier)",
    "adam_beta1": "use 'training.optimizer.beta1' (optimizer adam)",
    "adam_beta2": "use 'training.optimizer.beta2' (optimizer adam)",
    "rmsprop_decay": "use 'training.optimizer.decay' (optimizer rmsprop)",
    "learning_rate_decay": "use 'training.schedule.decay' (schedules tutorial and plateau)",
    "plain": "use 'run.fused: false'",
}


def explain_unknown_key(path: KeyPath, variant: str | None = None) -> str:
    """Returns a message for the unknown key at `path` that suggests the intended key.

    Args:
        path: path of the key, such as ("model", "cell", "reset_gate").
        variant: name of the variant that lacks the option; None if the key is not an option.
    """
    key = str(path[-1])
    if variant is not None:
        return _explain_unknown_option(path, key, variant)
    siblings = SECTIONS.get(str(path[0]), []) if len(path) == 2 else list(SECTIONS)
    homes = [f"'{section}'" for section, keys in SECTIONS.items() if key in keys]
    for variant_path, variants in VARIANT_KEYS.items():
        users = [name for name, options in variants.options.items() if key in options]
        if users:
            homes.append(f"'{_dotted(variant_path)}' (option of {', '.join(users)})")
    if key in OTHER_NAMES:
        return f"unknown key; {OTHER_NAMES[key]}"
    if homes:
        return f"unknown key here; it belongs in {' or '.join(homes)}"
    return _nearest(key, siblings) or f"unknown key; the keys here are {', '.join(siblings)}"


def explain_unknown_variant(path: KeyPath, name: str) -> tuple[str, str]:
    """Returns the variants that the key at `path` accepts, and the one closest to `name`."""
    names = list(VARIANT_KEYS[path].options)
    custom = " or my_module:MyCell (a class in my_module.py)" if path[-1] == "cell" else ""
    choices = ", ".join(names[:-1]) + (", " if custom else " or ") + names[-1] + custom
    nearest = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.7)
    guess = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"expected {choices}", guess


def _explain_unknown_option(path: KeyPath, key: str, variant: str) -> str:
    parent = path[:-1]
    kind = parent[-1]
    variants = VARIANT_KEYS[parent].options
    users = [name for name, options in variants.items() if key in options]
    if users:
        return f"unknown key for {kind} '{variant}'; it is an option of {', '.join(users)}"
    if key in OTHER_NAMES:
        return f"unknown key; {OTHER_NAMES[key]}"
    own = variants[variant]
    nearest = _nearest(key, own)
    if nearest:
        return nearest
    for section, keys in SECTIONS.items():
        if key in keys:
            return f"unknown key here; it belongs in '{section}'"
    if own:
        return f"unknown key for {kind} '{variant}'; its options are {', '.join(own)}"
    return f"unknown key; {kind} '{variant}' has no options"


def _nearest(key: str, names: Iterable[str]) -> str | None:
    nearest = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
    return f"unknown key, did you mean '{nearest[0]}'?" if nearest else None


def _dotted(path: KeyPath) -> str:
    return ".".join(str(part) for part in path)
