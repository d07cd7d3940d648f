"""The JSON document of a checkpoint: everything in the file except the tensors."""

import re
from typing import Any

from ptblm.checkpoint.structure import StructureMismatchError, check_structure
from ptblm.corpus.layout import SPLITS

FORMAT = 5


def check_document(document: dict[str, Any]) -> None:
    """Checks the outer structure of a document. The trainer checks the train state.

    Raises:
        StructureMismatchError: if a value is missing, unknown or of an unexpected type.
    """
    expected: dict[str, Any] = {
        "format": FORMAT,
        "config": {},
        "vocabulary": {"tokens": [], "counts": []},
        "corpus": {"name": "", "sha256": dict.fromkeys(SPLITS, "")},
        "train_state": {},
        "metrics_offset": 0,
        "imported_from": None
        if document.get("imported_from") is None
        else {"file": "", "sha256": "", "kind": ""},
        "versions": {"ptblm": "", "torch": "", "python": ""},
        "computing": {
            "device": "",
            "hardware": "",
            "threads": 0,
            "processes": 1,
            "matmul": "",
            "kernel": "",
            "cuda_graph": False,
            "cell_source": "",
        },
        "hidden_state": [],
    }
    varying = {"config", "vocabulary.tokens", "vocabulary.counts", "train_state"}
    check_structure(expected, document, varying=varying | {"hidden_state"})
    tokens, counts = document["vocabulary"]["tokens"], document["vocabulary"]["counts"]
    imported = document["imported_from"]
    hashes = document["corpus"]["sha256"].values()
    problems = {
        "vocabulary: not a list of tokens": not tokens
        or not all(isinstance(token, str) for token in tokens),
        "vocabulary: not a count for each token": len(counts) != len(tokens)
        or not _are_sizes(counts),
        "config: not sections of keys": not all(
            isinstance(section, dict) for section in document["config"].values()
        ),
        "corpus: not the hashes of texts": not all(
            re.fullmatch("[0-9a-f]{64}|", sha256) for sha256 in hashes
        ),
        "imported_from: not a file": imported is not None
        and not ("/" not in imported["file"] and re.fullmatch("[0-9a-f]{64}", imported["sha256"])),
        "metrics_offset: below zero": document["metrics_offset"] < 0,
        "hidden_state: not a number of tensors for each layer": not _are_sizes(
            document["hidden_state"]
        ),
    }
    for problem, found in problems.items():
        if found:
            raise StructureMismatchError(problem)
    if len(set(tokens)) != len(tokens):
        raise StructureMismatchError("vocabulary: a token occurs twice")


def _are_sizes(values: list[Any]) -> bool:
    return all(type(value) is int and value >= 0 for value in values)
