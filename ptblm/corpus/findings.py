"""What cleaning finds in a text, and its description."""

from collections import Counter
from typing import Literal

from ptblm.corpus.vocabulary import UNK
from ptblm.terminal import counted

Kind = Literal[
    "line end",
    "byte order mark",
    "zero-width space",
    "dropped mark",
    "kept mark",
    "repeated word",
    "unknown word",
    "possible unknown word",
]
# Counts what was found in a text, by kind and, where it matters, by word.
Findings = Counter[tuple[Kind, str]]

_MAX_LISTED = 12  # words in a note


def notes(findings: Findings) -> list[str]:
    """Returns a sentence for each kind of change."""
    lines = []
    if line_ends := findings["line end", ""]:
        lines.append(f"{line_ends:,} line ends were CR or CR LF; read as LF")
    if marks := findings["byte order mark", ""]:
        lines.append(f"{counted(marks, 'byte order mark')} (U+FEFF) removed")
    if spaces := findings["zero-width space", ""]:
        count = counted(spaces, "zero-width space")
        lines.append(f"the text contains {count} (U+200B); they are part of the words around them")
    if dropped := _words(findings, "dropped mark"):
        lines.append(
            f"sentence marks were dropped: {with_counts(dropped)}; ptblm adds <eos> itself "
            "(data.marks: keep keeps them)"
        )
    if kept := _words(findings, "kept mark"):
        lines.append(
            f"sentence marks are kept as tokens: {with_counts(kept)}; ptblm adds <eos> too, so "
            "the perplexity is not comparable with that of a text without marks"
        )
    if repeated := _words(findings, "repeated word"):
        lines.append(
            f"nearly all lines begin or end with {' and '.join(repeated)}; if this is a sentence "
            "mark, remove it, because it lowers the perplexity"
        )
    unknown = _words(findings, "unknown word")
    if others := {word: count for word, count in unknown.items() if word != UNK}:
        lines.append(f"read as the unknown word <unk>: {with_counts(others)}")
    possible = _words(findings, "possible unknown word")
    if possible and not unknown:
        lines.append(
            f"the text contains {with_counts(possible)}; if it stands for unknown words, pass "
            f"--set data.vocabulary.unk={max(possible, key=possible.__getitem__)}"
        )
    return lines


def with_counts(words: dict[str, int]) -> str:
    """Lists words with their counts, as in "80 <s>, 80 </s>"."""
    listed = [f"{count:,} {word}" for word, count in list(words.items())[:_MAX_LISTED]]
    if len(words) > _MAX_LISTED:
        listed.append(f"and {len(words) - _MAX_LISTED:,} more")
    return ", ".join(listed)


def _words(findings: Findings, kind: Kind) -> dict[str, int]:
    """Returns the words of one kind with their counts."""
    return {word: count for (found, word), count in findings.items() if found == kind}
