"""Judges the items of a SyntaxGym suite: are its predictions true of the model's surprisals?"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptblm.corpus.lines import Line
from ptblm.evaluation.minimal_pairs.formula import Operation, is_true, regions
from ptblm.evaluation.minimal_pairs.judgments import Judgment
from ptblm.evaluation.minimal_pairs.pair import Place
from ptblm.evaluation.minimal_pairs.spans import Reader, token_nll
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite, region_values


@dataclass(frozen=True)
class _Sentence:
    """The sentence of a condition: its tokens, and how many of them each region has."""

    line: Line
    numbers: list[int]
    sizes: list[int]


def judge_suite(reader: Reader, suite: Suite) -> list[Judgment]:
    """Returns the judgment of each prediction about each item, item by item.

    The token that ends a line belongs to the last region. The space between two regions, which
    only models of characters and bytes have, belongs to the first one.

    Raises:
        DataError: if a word is unknown and the vocabulary does not contain `<unk>`.
    """
    items = [
        {name: _sentence(reader, texts, item.place) for name, texts in item.conditions.items()}
        for item in suite.items
    ]
    nll = token_nll(reader, (each.line.ids for item in items for each in item.values()))
    judgments = []
    for sentences in items:
        values = {
            (name, number): float(value)
            for name, each in sentences.items()
            for number, value in zip(
                each.numbers,
                region_values(_bits(nll[each.line.ids.tobytes()]), each.sizes, suite.metric),
                strict=True,
            )
        }
        judgments += [
            _judgment(suite, index, formula, sentences, is_right=is_true(formula, values))
            for index, formula in enumerate(suite.predictions, start=1)
        ]
    return judgments


def _judgment(
    suite: Suite, index: int, formula: Operation, sentences: dict[str, _Sentence], *, is_right: bool
) -> Judgment:
    lines = [sentences[name].line for name in {region.condition for region in regions(formula)}]
    distinct = {line.ids.tobytes() for line in lines}
    several = len(suite.predictions) > 1
    return Judgment(
        f"{suite.name}, prediction {index}" if several else suite.name,
        {"suite": suite.name} if several else {},
        "right" if is_right else "wrong",
        len(distinct) < len(lines),
        sum(len(line.tokens) for line in lines),
        sum(int(line.unknown.sum()) for line in lines),
    )


def _sentence(reader: Reader, texts: list[tuple[int, str]], place: Place) -> _Sentence:
    full = [index for index, (_, text) in enumerate(texts) if text]
    parts = [
        reader.part(text, first=index == full[0], last=index == full[-1])
        for index, (_, text) in enumerate(texts)
    ]
    line = reader.line([token for part in parts for token in part], "", place)
    sizes = [len(part) for part in parts]
    sizes[-1] += 1  # the token that ends the line
    return _Sentence(line, [number for number, _ in texts], sizes)


def _bits(nats: NDArray[np.float64]) -> NDArray[np.float64]:
    return nats / math.log(2)
