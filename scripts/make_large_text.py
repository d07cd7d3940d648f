"""Generates a large text of random words with realistic frequencies, to test the reader.

python scripts/make_large_text.py big.txt --megabytes 1000
"""

import argparse
from pathlib import Path

import numpy as np

VOCABULARY = 250_000
WORDS_PER_LINE = 21  # as in the Penn Treebank
_WORDS_AT_A_TIME = 2**20
_LETTERS = np.frombuffer(b"etaoinshrdlucmfwypvbgkqjxz", dtype=np.uint8)


def make_text(path: Path, megabytes: int, seed: int = 1) -> None:
    """Writes random words whose frequencies follow Zipf's law. Frequent words are short.

    The frequency of the word of rank r is proportional to 1 / (r + 2.7) (Mandelbrot's form of the
    law). `<unk>` is the most frequent word, so that any part of the text can be encoded with the
    vocabulary of another part.

    Args:
        path: the file to write; an existing file is overwritten.
        megabytes: minimum size, in units of 10**6 bytes. The file is up to 10 MB larger.
        seed: random seed. Equal seeds generate equal files.
    """
    rng = np.random.default_rng(seed)
    words = _words(rng)
    spaced = np.array([word + end for end in (b" ", b"\n") for word in words], dtype=object)
    shares = np.cumsum(1 / (np.arange(len(words)) + 2.7))
    size = 0
    with path.open("wb") as file:
        while size < megabytes * 10**6:
            drawn = np.searchsorted(shares, rng.random(_WORDS_AT_A_TIME) * shares[-1])
            ends_line = rng.random(_WORDS_AT_A_TIME) < 1 / WORDS_PER_LINE
            size += file.write(b"".join(spaced[drawn + ends_line * len(words)].tolist()))


def _words(rng: np.random.Generator) -> list[bytes]:
    """Returns distinct words, from short to long."""
    words = {b"<unk>": None}
    while len(words) < VOCABULARY:
        size = 1 + int(np.log2(len(words) + 1) / 2.2) + int(rng.integers(4))
        letters = (rng.random(size) ** 1.5 * len(_LETTERS)).astype(int)
        words[_LETTERS[letters].tobytes()] = None
    return list(words)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("path", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    make_text(arguments.path, arguments.megabytes, arguments.seed)


if __name__ == "__main__":
    main()
