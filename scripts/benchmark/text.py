"""A text of the Penn Treebank's size and vocabulary, made of nothing but chance."""

from pathlib import Path

import numpy as np

WORDS = 1_100_000
VOCABULARY = 10_000
_LINE = 21


def write_text(path: Path, words: int = WORDS, vocabulary: int = VOCABULARY) -> None:
    """Writes words whose frequencies follow Zipf's law, 21 a line.

    Args:
        path: of the file.
        words: how many, line ends not counted.
        vocabulary: how many different tokens there are, `<unk>` and the line ends' `<eos>` among
            them; all of them stand in the first 90%, which is trained on.
    """
    random = np.random.default_rng(0)
    kinds = np.array([f"w{rank}" for rank in range(vocabulary - 2)] + ["<unk>"])
    chance = 1 / (np.arange(len(kinds)) + 2.7)
    drawn = random.choice(len(kinds), size=words - len(kinds), p=chance / chance.sum())
    tokens = kinds[np.concatenate([random.permutation(len(kinds)), drawn])].tolist()
    lines = (" ".join(tokens[start : start + _LINE]) for start in range(0, len(tokens), _LINE))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
