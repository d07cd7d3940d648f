"""The surprisal of each token of a text, as Python objects and as colored text in a notebook."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import EOS
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.evaluation.score import perplexity
from ptblm.terminal import counted

_DARKEST = 15.0  # bits of surprisal with the strongest color
_COLOR = "255, 140, 0"  # dark orange, which differs from the text in any kind of color vision


@dataclass(frozen=True)
class Token:
    """A token of a text and what the model expected in its place.

    Attributes:
        sentence: number of the line in the text, from 1.
        text: the token in the spelling of the text, or the token that ends a line.
        surprisal: -log p; None for the first token of a stream.
        unknown: whether the token is not in the vocabulary and was scored as `<unk>`.
        entropy: entropy of the distribution that predicts the token; None if it was not computed.
        rank: 1 if the token was the most probable one; None if it was not computed.
        predictions: the most probable tokens and their surprisal.
    """

    sentence: int
    text: str
    surprisal: float | None
    unknown: bool
    entropy: float | None = None
    rank: int | None = None
    predictions: tuple[tuple[str, float], ...] = ()


def scored_tokens(scored: ScoredLine, tokenizer: Tokenizer, scale: float) -> Iterator[Token]:
    """Yields the tokens of a line.

    Args:
        scored: the line and its scores in nats.
        tokenizer: the tokenizer of the line.
        scale: the factor from nats to the unit of the surprisal.
    """
    line, scores, known = scored.line, scored.scores, tokenizer.vocabulary.tokens
    for index, token in enumerate([*line.tokens, tokenizer.line_end]):
        is_scored = bool(np.isfinite(scores.nll[index]))
        predictions: tuple[tuple[str, float], ...] = ()
        if is_scored and scores.top_ids is not None and scores.top_nll is not None:
            found = zip(scores.top_ids[index].tolist(), scores.top_nll[index].tolist(), strict=True)
            predictions = tuple((tokenizer.spelled(known[i]), nll * scale) for i, nll in found)
        yield Token(
            line.number,
            tokenizer.spelled(token),
            float(scores.nll[index]) * scale if is_scored else None,
            bool(line.unknown[index]),
            float(scores.entropy[index]) * scale
            if is_scored and scores.entropy is not None
            else None,
            int(scores.rank[index]) if is_scored and scores.rank is not None else None,
            predictions,
        )


class TextScore(Sequence[Token]):
    """The tokens of a text with their surprisal, in order.

    `pandas.DataFrame(score)` is a table with a row per token.

    Args:
        tokens: the tokens.
        base: base of the logarithm of the surprisal.
        unit: name of a token: "word", "character", "byte" or "subword".

    Attributes:
        tokens: the tokens.
        base: base of the logarithm of the surprisal.
        unit: name of a token.
    """

    def __init__(self, tokens: Sequence[Token], base: float, unit: str) -> None:
        self.tokens = list(tokens)
        self.base = base
        self.unit = unit

    @overload
    def __getitem__(self, index: int) -> Token: ...
    @overload
    def __getitem__(self, index: slice) -> "TextScore": ...
    def __getitem__(self, index: int | slice) -> "Token | TextScore":
        """Returns a token, or the score of some of the tokens."""
        if isinstance(index, slice):
            return TextScore(self.tokens[index], self.base, self.unit)
        return self.tokens[index]

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def surprisal(self) -> float:
        """The sum of the surprisal of all tokens: -log p of the text."""
        return sum(token.surprisal for token in self.tokens if token.surprisal is not None)

    @property
    def perplexity(self) -> float:
        """The perplexity per token; NaN if no token was scored."""
        count = sum(token.surprisal is not None for token in self.tokens)
        nats = self.surprisal * float(np.log(self.base))
        return perplexity(nats, count) if count else float("nan")

    @property
    def unknown(self) -> int:
        """The number of tokens that are not in the vocabulary."""
        return sum(token.unknown for token in self.tokens)

    def __repr__(self) -> str:
        bits = self.surprisal * float(np.log2(self.base))
        return (
            f"<TextScore: {counted(len(self), self.unit)}, {self.unknown:,} unknown, "
            f"{bits:.2f} bits, perplexity {self.perplexity:.2f}>"
        )

    def _repr_html_(self) -> str:
        """Returns the text colored by surprisal, for notebooks."""
        return passage_html(self)


def passage_html(score: TextScore) -> str:
    """Returns a text whose tokens are colored by surprisal, with details in their tooltips.

    Everything that comes from the text or the vocabulary is escaped.
    """
    bits = float(np.log2(score.base))
    between = " " if score.unit == "word" else ""
    lines: dict[int, list[str]] = {}
    for token in score.tokens:
        lines.setdefault(token.sentence, []).append(_token_html(token, bits))
    body = "<br>\n".join(between.join(tokens) for tokens in lines.values())
    style = "font-family: sans-serif; line-height: 1.8; white-space: pre-wrap"
    return f'<div class="ptblm-score" style="{style}">{body}</div>'


def _token_html(token: Token, bits: float) -> str:
    details = ["not scored" if token.surprisal is None else f"{token.surprisal * bits:.2f} bits"]
    if token.rank is not None:
        details.append(f"rank {token.rank:,}")
    if token.entropy is not None:
        details.append(f"entropy {token.entropy * bits:.2f} bits")
    if token.unknown:
        details.append("unknown word")
    if token.predictions:
        expected = ", ".join(
            f"{text} {2 ** (-surprisal * bits):.1%}" for text, surprisal in token.predictions
        )
        details.append(f"expected: {expected}")
    share = min(max((token.surprisal or 0.0) * bits / _DARKEST, 0.0), 1.0)
    style = f"background: rgba({_COLOR}, {share:.2f}); border-radius: 3px; padding: 1px 2px"
    if token.unknown:
        style += "; text-decoration: underline dotted"
    text = "↵" if token.text in (EOS, "\n") else token.text
    title = html.escape("; ".join(details))
    return f'<span style="{style}" title="{title}">{html.escape(text)}</span>'
