"""Answers to names that ptblm does not know: the tutorial's, misspelt ones, misplaced ones."""

import difflib

from ptblm.config.schema import Config

# The TensorFlow tutorial's parameter names (ptb_word_lm.py) and where ours are.
TUTORIAL_NAMES = {
    "init_scale": "is 'model.init_scale' here",
    "learning_rate": "is 'training.learning_rate' here",
    "max_grad_norm": "is 'training.max_grad_norm' here",
    "num_layers": "is 'model.num_layers' here",
    "num_steps": "is 'training.num_steps' here",
    "hidden_size": "is 'model.hidden_size' here",
    "max_epoch": "is 'training.full_rate_epochs' here",
    "max_max_epoch": "is 'training.epochs' here",
    "keep_prob": "is 'model.dropout' here, which is 1 - keep_prob",
    "lr_decay": "is 'training.learning_rate_decay' here",
    "batch_size": "is 'training.batch_size' here",
    "vocab_size": "is not set here: the vocabulary's size is taken from the training text",
    "data_path": "is 'data.path' here",
    "use_fp16": "is 'training.precision: fp16' here",
    "save_path": "is the option --run-dir here",
    "rnn_mode": "is not set here: the fastest exact path is chosen",
}

SECTIONS: dict[str, list[str]] = {
    name: list(field.annotation.model_fields)  # type: ignore[union-attr]
    for name, field in Config.model_fields.items()
}


def explain_unknown_key(path: tuple[str | int, ...]) -> str:
    """Says what the writer of the unknown key at `path` most likely meant."""
    key = str(path[-1])
    siblings = SECTIONS.get(str(path[0]), []) if len(path) == 2 else list(SECTIONS)
    if key in TUTORIAL_NAMES:
        return f"the tutorial's '{key}' {TUTORIAL_NAMES[key]}"
    for section, keys in SECTIONS.items():
        if key in keys:
            return f"unknown key here, it belongs in '{section}'"
    nearest = difflib.get_close_matches(key, siblings, n=1, cutoff=0.6)
    if nearest:
        return f"unknown key, did you mean '{nearest[0]}'?"
    return f"unknown key, the keys here are {', '.join(siblings)}" if siblings else "unknown key"
