"""Small invented files of minimal pairs, and a model for them."""

import json
from pathlib import Path
from typing import Any

import torch

from ptblm.config.model import ModelConfig
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.evaluation.minimal_pairs.spans import Reader
from ptblm.model.build import build_model
from ptblm.model.initializers import Initializer

WORDS = ["<eos>", "<unk>", "the", "a", "cat", "cats", "dog", "dogs", "sleeps", "sleep", "near", "."]
CHARACTERS = ["<eos>", "<unk>", " ", *"acdeghlnoprst."]

ONE_PREFIX = {
    "sentence_good": "the cat sleeps near a dog",
    "sentence_bad": "the cat sleep near a dog",
    "one_prefix_prefix": "the cat",
    "one_prefix_word_good": "sleeps",
    "one_prefix_word_bad": "sleep",
    "field": "morphology",
    "linguistics_term": "agreement",
    "UID": "simple_agreement",
}
TWO_PREFIXES = {
    "sentence_good": "a cat near the dogs sleeps",
    "sentence_bad": "a cats near the dogs sleeps",
    "two_prefix_prefix_good": "a cat",
    "two_prefix_prefix_bad": "a cats",
    "two_prefix_word": " near",
    "field": "syntax/semantics",
    "UID": "determiners",
}
SUITE: dict[str, Any] = {
    "meta": {"name": "agreement suite", "metric": "sum"},
    "region_meta": {"1": "subject", "2": "verb", "3": "end"},
    "predictions": [{"type": "formula", "formula": "(2;%match%) < (2;%mismatch%)"}],
    "items": [
        {
            "item_number": 1,
            "conditions": [
                {
                    "condition_name": name,
                    "regions": [
                        {"region_number": 1, "content": "the cat"},
                        {"region_number": 2, "content": verb},
                        {"region_number": 3, "content": "near a dog"},
                    ],
                }
                for name, verb in (("match", "sleeps"), ("mismatch", "sleep"))
            ],
        }
    ],
}
TABLE = (
    "test case\tgrammatical\tungrammatical\n"
    "simple--sing\tthe cat sleeps\tthe cat sleep\n"
    "simple--plur\tthe cats sleep\tthe cats sleeps\n"
    "across--sing\tthe cat near the dogs sleeps\tthe cat near the dogs sleep\n"
)
AGREEMENT = {
    ".text": "the cat sleeps near the dogs <eos>\nthe dogs near a cat sleep <eos>\n",
    ".eval": "2\n5\n",
    ".gold": "2\tsleeps\tsleep\t0\n5\tsleep\tsleeps\t1\n",
}
NONCE_GOLD = "N!V\t1\t0\t2\tVERB\tPres\tsleeps\tsleep\tsleep\t1\tNOUN\tthe cat\n"
NONCE_GOLD += "N!V\t1\t3\t5\tVERB\tPres\tsleep\tsleeps\tsleep\t2\tNOUN\tthe dogs near\n"


def json_lines(*objects: dict[str, Any]) -> str:
    return "".join(json.dumps(each) + "\n" for each in objects)


def write(directory: Path, name: str, text: str) -> Path:
    path = directory / name
    path.write_text(text, encoding="utf-8")
    return path


def write_agreement(directory: Path, **changes: str) -> Path:
    """Writes the three files; a change is the text of a suffix. Returns the .text."""
    for suffix, text in AGREEMENT.items():
        write(directory, f"agreement{suffix}", changes.get(suffix[1:], text))
    return directory / "agreement.text"


def make_reader(unit: str = "word", batch_size: int = 3) -> Reader:
    """A model with random weights."""
    tokens = WORDS if unit == "word" else CHARACTERS
    tokenizer = (
        make_tokenizer("byte")
        if unit == "byte"
        else make_tokenizer(unit, Vocabulary(tokens, range(1, len(tokens) + 1)))
    )
    model = build_model(ModelConfig(hidden_size=8, num_layers=2), len(tokenizer.vocabulary))
    model.initialize(Initializer("uniform", 1.0), torch.Generator().manual_seed(0))
    return Reader(model.eval(), tokenizer, batch_size=batch_size)
