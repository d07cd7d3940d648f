"""The output of neural-complexity and LM Zoo, for scripts that read it."""

from collections.abc import Iterable, Iterator

from ptblm.corpus.vocabulary import UNK
from ptblm.evaluation.line_scores import ScoredLine
from ptblm.reporting.score_formats.cells import cell, spelled_tokens
from ptblm.reporting.score_formats.columns import Request, TokenColumns, numbers, predictions


def neural_complexity(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of `main.py --test --words` of neural-complexity.

    Columns are separated by spaces. Both ids start at 0, blank lines have none, and the token that
    ends a line is left out. An unknown word is `<unk>`, whose length is 5. With predictions, the
    output is that of `--guess --guesssurps`.
    """
    header = ["word", "sentid", "sentpos", "wlen", "surp", "entropy", "entred"]
    header += [f"{name}{k}" for k in range(request.top) for name in ("guess", "gsurp")]
    yield [" ".join(header)]
    columns, sentence = TokenColumns(request), 0
    for scored in lines:
        values = columns.of(scored)
        if not scored.line.tokens:
            continue
        words = _known_words(scored)
        texts = [numbers(column) for column in values.values()]
        if request.top:
            guesses = predictions(scored.scores, request)
            texts.append([" ".join(f"{word} {each:.3f}" for word, each in row) for row in guesses])
        rows = zip(words, *texts, strict=False)  # without the last row, of the end of the line
        yield [
            f"{word} {sentence} {index} {len(word)} {' '.join(row)}"
            for index, (word, *row) in enumerate(rows)
        ]
        sentence += 1


def lm_zoo(lines: Iterable[ScoredLine], request: Request) -> Iterator[list[str]]:
    """Yields the output of `lm-zoo get-surprisals`, which SyntaxGym reads.

    Ids start at 1, and an unknown token is `<unk>`.
    """
    yield ["sentence_id\ttoken_id\ttoken\tsurprisal"]
    columns = TokenColumns(request)
    for scored in lines:
        spelled = spelled_tokens(scored.line, request.tokenizer)
        unknown = scored.line.unknown.tolist()
        tokens = [UNK if each else token for token, each in zip(spelled, unknown, strict=True)]
        surprisal = numbers(columns.of(scored)["surprisal"])
        yield [
            f"{scored.line.number}\t{index}\t{cell(token)}\t{text}"
            for index, (token, text) in enumerate(zip(tokens, surprisal, strict=True), start=1)
        ]


def _known_words(scored: ScoredLine) -> list[str]:
    """Returns the words of a line, with `<unk>` for unknown ones."""
    pairs = zip(scored.line.tokens, scored.line.unknown.tolist(), strict=False)
    return [UNK if unknown else token for token, unknown in pairs]
