"""Reads a byte-pair encoding from a tokenizer.json, the file format of the library `tokenizers`.

The file is untrusted, and its regular expressions could take unlimited time. The library therefore
receives only the tokens and merges of the file.
"""

from pathlib import Path
from typing import Any

from ptblm.corpus.tokenizers.bpe import BpeTokenizer
from ptblm.corpus.vocabulary import EOS, Vocabulary
from ptblm.errors import DataError
from ptblm.files import open_regular, os_errors
from ptblm.json_files import JsonError, parse_json

MAX_BYTES = 2**25

# Values of the model that change nothing. `unk_token` can be anything: no token is unknown.
_UNUSED = {
    "dropout": (None, 0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
    "ignore_merges": (None, False),
}


def read_tokenizer_file(path: Path) -> Vocabulary:
    """Reads a vocabulary with merges, whose ids are those of the file.

    `<eos>` is added at the end if the file lacks it. Special tokens of the file keep their ids, but
    the tokenizer never produces them: in a text, they are ordinary characters.

    Args:
        path: a file that describes a byte-level byte-pair encoding, as that of GPT-2.

    Raises:
        DataError: if the file cannot be read, is larger than `MAX_BYTES`, or describes anything
            else, such as a tokenizer that does not restore the exact text.
    """
    with os_errors(DataError, where=path), open_regular(path) as file:
        raw = file.read(MAX_BYTES + 1)
    try:
        if len(raw) > MAX_BYTES:
            raise DataError(f"the tokenizer is larger than {MAX_BYTES // 2**20} MiB")
        document = parse_json(raw, rest=len(raw))
        _check_kind(document)
        vocabulary = Vocabulary(*_tokens_and_merges(document))
        BpeTokenizer(vocabulary)
    except JsonError as error:
        raise DataError(str(error), where=str(path), hint="pass a tokenizer.json") from None
    except DataError as error:
        hint = "pass the tokenizer.json of a byte-level BPE, such as that of GPT-2"
        raise DataError(error.what, where=str(path), hint=hint) from None
    return vocabulary


def _check_kind(document: dict[str, Any]) -> None:
    """Checks that a tokenizer is a byte-level byte-pair encoding that restores the exact text.

    Raises:
        DataError: if it is not.
    """
    model = document.get("model")
    if not isinstance(model, dict) or "vocab" not in model:
        raise DataError("the file contains no model with a vocabulary")
    kind = model.get("type", "BPE")  # old files do not name it
    if kind != "BPE":
        raise DataError(f"the model is {kind!r:.40}, not BPE")
    for key, values in _UNUSED.items():
        if model.get(key) not in values:
            raise DataError(f"model.{key}: {model[key]!r:.40} is not supported")
    if document.get("normalizer") is not None:
        raise DataError("the normalizer changes the text, so that it cannot be restored")
    for part in ("pre_tokenizer", "decoder"):
        if _type(document.get(part)) != "ByteLevel":
            raise DataError(f"the {part} is {_type(document.get(part))!r:.40}, not ByteLevel")
    if document["pre_tokenizer"].get("add_prefix_space", True):
        raise DataError("add_prefix_space adds a space, so that the text cannot be restored")
    if not document["pre_tokenizer"].get("use_regex", True):
        raise DataError("use_regex: false is not supported")


def _type(part: object) -> object:
    return part.get("type") if isinstance(part, dict) else None


def _tokens_and_merges(document: dict[str, Any]) -> tuple[list[str], list[int], list[str]]:
    """Returns the tokens in the order of their ids, counts of 0, and the merges.

    Raises:
        DataError: if they are malformed.
    """
    ids = document["model"]["vocab"]
    added = document.get("added_tokens") or []
    if not isinstance(ids, dict) or not isinstance(added, list):
        raise DataError("the vocabulary is not an object of tokens and ids")
    try:
        ids = {**ids, **{each["content"]: each["id"] for each in added}}
    except (TypeError, KeyError):
        raise DataError("the added tokens are not objects with content and id") from None
    if not all(type(token) is str and type(index) is int for token, index in ids.items()):
        raise DataError("the vocabulary is not an object of tokens and ids")
    tokens = sorted(ids, key=ids.__getitem__)
    if [ids[token] for token in tokens] != list(range(len(tokens))):
        raise DataError("the ids of the tokens are not 0, 1, 2, ...")
    if EOS not in ids:
        tokens.append(EOS)
    merges = document["model"].get("merges")
    if not isinstance(merges, list):
        raise DataError("the model has no list of merges")
    try:
        texts = [each if isinstance(each, str) else " ".join(each) for each in merges]
    except TypeError:
        raise DataError("a merge is not a pair of tokens") from None
    return tokens, [0] * len(tokens), texts


def tokenizer_document(vocabulary: Vocabulary) -> dict[str, Any]:
    """Returns the content of a tokenizer.json with the tokens and merges of a vocabulary."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    eos = {"id": vocabulary.ids[EOS], "content": EOS, "special": True, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**eos, "single_word": False, "lstrip": False, "rstrip": False}],
        "normalizer": None,
        "pre_tokenizer": {**byte_level, "use_regex": True},
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": dict(vocabulary.ids),
            "merges": [merge.split(" ") for merge in vocabulary.merges],
        },
    }
