"""Mixes a model with the public models of the Penn Treebank of Herel & Mikolov (2023).

They publish the probability of each token of the valid and test text for seven models, from
Kneser-Ney to Transformer-XL (arXiv 2312.03735, table "Ensemble of All": 48.92 and 47.31).

    git clone https://github.com/DavidHerel/sota_lm
    ptblm score runs/medium-ptb ptb.valid.txt --mode stream --format jsonl > valid.jsonl
    ptblm score runs/medium-ptb ptb.test.txt --mode stream --format jsonl > test.jsonl
    python examples/mix_published_models.py sota_lm/PennTreeBank valid.jsonl test.jsonl

Without the two files, only the public models are mixed. The weights are those that maximize the
likelihood of the valid text.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptblm.evaluation.mixture import mixture_weights


def own_log_probs(path: Path, words: list[str]) -> NDArray[np.float64]:
    """Reads the output of `ptblm score`, whose first token has no context."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    _, *tokens = [token.replace("<eos>", "</s>") for line in lines for token in line["tokens"]]
    if tokens != words:
        sys.exit(f"error: {path} does not have the tokens of the public models")
    _, *bits = [surprisal for line in lines for surprisal in line["surprisal"]]
    return np.array([-math.log(2) * each for each in bits])


def log_probs(directory: Path, split: str, own: Path | None) -> dict[str, NDArray[np.float64]]:
    """Returns the log-probability of each token of a split under each model."""
    files = sorted((directory / split).glob("*.txt"))
    found = {file.stem: np.log(np.loadtxt(file)) for file in files}
    if own is not None:
        words = (directory / f"words_{split}.txt").read_text(encoding="utf-8").split()
        found[own.name] = own_log_probs(own, words)
    return found


def perplexity(log_probs: NDArray[np.float64]) -> str:
    """Returns the perplexity of a text as a cell of the table."""
    return f"{np.exp(-log_probs.mean()):10.4f}"


directory, *own = map(Path, sys.argv[1:])
valid, test = (
    log_probs(directory, split, own[number] if own else None)
    for number, split in enumerate(("valid", "test"))
)
weights = mixture_weights(np.stack(list(valid.values()), axis=1))
print("     valid       test  weight  model")
for name, before, after, weight in zip(valid, valid.values(), test.values(), weights, strict=True):
    print(f"{perplexity(before)} {perplexity(after)}  {weight:6.3f}  {name}")
mixed = [np.log(np.exp(np.stack(list(part.values()), axis=1)) @ weights) for part in (valid, test)]
print(f"{perplexity(mixed[0])} {perplexity(mixed[1])}          the mixture")
