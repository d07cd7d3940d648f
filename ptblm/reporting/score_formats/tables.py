"""Tables of tab-separated values: one row per token, per word or per line."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

from ptblm.corpus.text_size import line_size
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.evaluation.score import perplexity
from ptblm.evaluation.token_scores import TokenScores
from ptblm.reporting.score_formats.cells import cell, spelled_tokens
from ptblm.reporting.score_formats.columns import (
    Request,
    TokenColumns,
    computed,
    number,
    numbers,
    predictions,
    word_columns,
)

_MEASURES = ("bits_per_byte", "perplexity_per_word")
_ROWS = 2**16  # of a line that are written at once


def token_table(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the header, and for each line one row per token.

    The first four columns are those of LM Zoo: `sentence_id token_id token surprisal`, both ids
    from 1. The id of a sentence is the number of its line in the text.
    """
    top = [f"top{k}{part}" for k in range(1, request.top + 1) for part in ("", "_surprisal")]
    yield ["\t".join(["sentence_id", "token_id", "token", "surprisal", *request.columns, *top])]
    columns = TokenColumns(request)
    for scored in lines:
        tokens = spelled_tokens(scored.line, request.tokenizer)
        of_tokens = columns.of(scored)
        for part in _parts(len(tokens)):
            texts = [numbers(column[part]) for column in of_tokens.values()]
            if request.top:
                texts += _prediction_columns(scored.scores[part], request)
            yield _rows(scored.line.number, tokens[part], texts, part.start + 1)


def _parts(size: int) -> Iterator[slice]:
    """Yields slices of the rows of a line, so that a long line takes little memory as text."""
    return (slice(start, start + _ROWS) for start in range(0, size, _ROWS))


def _rows(number: int, tokens: list[str], texts: list[list[str]], first: int) -> list[str]:
    return [
        f"{number}\t{index}\t" + "\t".join(row)
        for index, row in enumerate(zip(map(cell, tokens), *texts, strict=True), start=first)
    ]


def _prediction_columns(scores: TokenScores, request: Request) -> list[list[str]]:
    """Returns the columns of tokens and surprisals, [2 K, N]."""
    rows = [
        [
            text
            for token, surprisal in row or [("", math.nan)] * request.top
            for text in (cell(token) or "NA", number(surprisal))
        ]
        for row in predictions(scores, request)
    ]
    return [list(column) for column in zip(*rows, strict=True)]


def word_table(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the header, and for each line one row per word between white space."""
    yield ["\t".join(["sentence_id", "word_id", "word", "surprisal", *request.columns])]
    columns = TokenColumns(request)
    for scored in lines:
        words, of_words = word_columns(scored, columns.of(scored), request.tokenizer)
        for part in _parts(len(words)):
            texts = [numbers(column[part]) for column in of_words.values()]
            yield _rows(scored.line.number, words[part], texts, part.start + 1)


def sentence_table(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the header, and one row per line.

    The tokens are those that are scored. The mean is per token. The perplexity per word counts the
    end of the line as a word, and the bytes of a line are those of UTF-8 with a newline.
    """
    ranked = "rank" in request.columns
    header = ["sentence_id", "tokens", "words", "surprisal", "mean", "perplexity", "unknown"]
    yield ["\t".join([*header, *(["max_rank"] if ranked else []), *_MEASURES])]
    for scored in lines:
        line = scored.line
        is_scored = ~np.isnan(scored.scores.nll)
        tokens, nats = int(is_scored.sum()), float(scored.scores.nll[is_scored].sum())
        surprisal = nats / math.log(request.base)
        size = line_size(line.text)
        row = [f"{line.number}", f"{tokens}", f"{size.words - 1}", number(surprisal)]
        row.append(number(surprisal / tokens if tokens else math.nan))
        row.append(number(perplexity(nats, tokens) if tokens else math.nan))
        row.append(f"{line.unknown.sum()}")
        if ranked:
            row.append(f"{computed(scored.scores.rank).max()}" if tokens else "NA")
        row.append(number(nats / math.log(2) / size.utf8_bytes))
        yield ["\t".join([*row, number(perplexity(nats, size.words))])]
