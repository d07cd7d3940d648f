"""Generates a random text with the size and vocabulary size of the Penn Treebank."""

from pathlib import Path

import numpy as np

WORDS = 1_100_000
VOCABULARY = 10_000
_LINE = 21


def write_text(path: Path, words: int = WORDS, vocabulary: int = VOCABULARY) -> None:
    """Writes random words whose frequencies follow Zipf's law, 21 per line.

    Args:
        path: the file to write.
        words: number of words, excluding line ends.
        vocabulary: number of distinct tokens, including `<unk>` and `<eos>`. All tokens occur in
            the first 90% of the text, the training split.
    """
    random = np.random.default_rng(0)
    distinct = np.array([f"w{rank}" for rank in range(vocabulary - 2)] + ["<unk>"])
    probabilities = 1 / (np.arange(len(distinct)) + 2.7)
    sample = random.choice(
        len(distinct), size=words - len(distinct), p=probabilities / probabilities.sum()
    )
    tokens = distinct[np.concatenate([random.permutation(len(distinct)), sample])].tolist()
    lines = (" ".join(tokens[start : start + _LINE]) for start in range(0, len(tokens), _LINE))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
