"""Word errors of a hypothesis: substitutions, deletions and insertions (Levenshtein distance)."""

from collections.abc import Sequence


def word_errors(words: Sequence[str], reference: Sequence[str]) -> int:
    """Returns the smallest number of words to substitute, delete or insert.

    Args:
        words: the words of the hypothesis.
        reference: the words that were spoken.
    """
    words, reference = _without_common_ends(words, reference)
    row = list(range(len(reference) + 1))
    for count, word in enumerate(words, start=1):
        diagonal, row[0] = row[0], count
        for index, spoken in enumerate(reference, start=1):
            substituted = diagonal + (word != spoken)
            diagonal = row[index]
            row[index] = min(substituted, diagonal + 1, row[index - 1] + 1)
    return row[-1]


def _without_common_ends(
    first: Sequence[str], second: Sequence[str]
) -> tuple[Sequence[str], Sequence[str]]:
    """Returns two sequences without the words with which both start or end.

    This changes no distance, and hypotheses are nearly right.
    """
    size = min(len(first), len(second))
    start = next((at for at in range(size) if first[at] != second[at]), size)
    first, second = first[start:], second[start:]
    size = min(len(first), len(second))
    end = next((at for at in range(size) if first[-1 - at] != second[-1 - at]), size)
    return first[: len(first) - end], second[: len(second) - end]
