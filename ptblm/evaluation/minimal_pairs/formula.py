"""Formulas of SyntaxGym: comparisons of the surprisal of regions, such as `(2;%a%) < (2;%b%)`.

`(2;%a%)` is the value of region 2 in condition a, and `(*;%a%)` the sum over its regions. In order
of precedence: `+ -`, then `< > =`, then `& |`. Round and square brackets group. This is the grammar
of SyntaxGym (Gauthier et al. 2020).
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

# Differences that `=` ignores: relative, and absolute in bits.
RELATIVE, ABSOLUTE = 1e-5, 1e-3

# Bounds of the depth of recursion.
_MAX_OPERATIONS, _MAX_DEPTH = 300, 50
_TOKEN = re.compile(
    r"\s*(?:"
    r"\(\s*(?P<region>\d{1,9}|\*)\s*;\s*%(?P<condition>[^%]+)%\s*\)"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
    r"|(?P<operator>[-+<>=&|()\[\]])"
    r")"
)
_LEVELS = ["&|", "<>=", "+-"]  # from the weakest
_CLOSING = {"(": ")", "[": "]"}

# The value of each region of each condition.
Values = Mapping[tuple[str, int], float]
Kind = Literal["number", "truth"]


class FormulaError(ValueError):
    """A formula is not valid; the message describes the problem."""


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float


@dataclass(frozen=True)
class Region:
    """A region of a condition, or all of its regions.

    Attributes:
        condition: name of the condition.
        number: number of the region; None for the sum over all.
    """

    condition: str
    number: int | None


@dataclass(frozen=True)
class Operation:
    """An operation on two formulas."""

    operator: str
    left: "Formula"
    right: "Formula"


Formula = Number | Region | Operation


def parse_formula(text: str) -> Operation:
    """Returns the formula of a prediction.

    Raises:
        FormulaError: if the text is not a formula that is true or false.
    """
    parser = _Parser(text)
    formula, kind = parser.parse(0, 0)
    if parser.next is not None:
        raise parser.error()
    if not isinstance(formula, Operation) or kind == "number":
        raise FormulaError(f"the formula {text!r:.200} compares nothing")
    return formula


def is_true(formula: Operation, values: Values) -> bool:
    """Returns whether a formula is true of the values of an item."""
    return bool(_value(formula, values))


def regions(formula: Formula) -> Iterator[Region]:
    """Yields the regions in a formula."""
    if isinstance(formula, Region):
        yield formula
    elif isinstance(formula, Operation):
        yield from regions(formula.left)
        yield from regions(formula.right)


def _value(formula: Formula, values: Values) -> float:
    if isinstance(formula, Number):
        return formula.value
    if isinstance(formula, Region):
        if formula.number is not None:
            return values[formula.condition, formula.number]
        return sum(value for (name, _), value in values.items() if name == formula.condition)
    left, right = _value(formula.left, values), _value(formula.right, values)
    match formula.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "<":
            return left < right
        case ">":
            return left > right
        case "=":
            return math.fabs(left - right) <= ABSOLUTE + RELATIVE * math.fabs(right)
        case "&":
            return bool(left) and bool(right)
        case _:
            return bool(left) or bool(right)


class _Parser:
    """Reads a formula token by token.

    Args:
        text: the formula.

    Attributes:
        next: the next token; None at the end.
    """

    def __init__(self, text: str) -> None:
        self._text = text.rstrip()
        self._end = 0  # of the next token
        self._operations = 0
        self._advance()

    def _advance(self) -> None:
        self._start, self.next = self._end, None
        if self._start < len(self._text):
            self.next = _TOKEN.match(self._text, self._start)
            if self.next is None:
                raise self.error()
            self._end = self.next.end()

    def error(self) -> FormulaError:
        """Returns the error of an unexpected token."""
        rest = self._text[self._start :].strip()
        found = f"{rest[:20]!r} is unexpected" if rest else "its end is missing"
        return FormulaError(f"the formula {self._text!r:.200} is not valid: {found}")

    def _take(self, operators: str) -> str | None:
        """Skips and returns the next token if it is one of these operators."""
        found = None if self.next is None else self.next["operator"]
        if not found or found not in operators:
            return None
        self._advance()
        return found

    def parse(self, level: int, depth: int) -> tuple[Formula, Kind]:
        """Returns the longest formula with operators from this level on, and what it yields."""
        if level == len(_LEVELS):
            return self._atom(depth)
        left, kind = self.parse(level + 1, depth)
        while operator := self._take(_LEVELS[level]):
            self._operations += 1
            if self._operations > _MAX_OPERATIONS:
                raise FormulaError(f"the formula has more than {_MAX_OPERATIONS} operations")
            right, right_kind = self.parse(level + 1, depth)
            wanted: Kind = "truth" if operator in "&|" else "number"
            if not kind == right_kind == wanted:
                raise FormulaError(
                    f"the formula {self._text!r:.200} is not valid: {operator} needs two {wanted}s"
                )
            left, kind = Operation(operator, left, right), "number" if level == 2 else "truth"
        return left, kind

    def _atom(self, depth: int) -> tuple[Formula, Kind]:
        if depth > _MAX_DEPTH:
            raise FormulaError(f"the formula has more than {_MAX_DEPTH} levels of brackets")
        if opening := self._take("(["):
            inner = self.parse(0, depth + 1)
            if not self._take(_CLOSING[opening]):
                raise self.error()
            return inner
        token = self.next
        if token is None or token["operator"]:
            raise self.error()
        self._advance()
        if token["number"]:
            return Number(float(token["number"])), "number"
        number = None if token["region"] == "*" else int(token["region"])
        return Region(token["condition"].strip(), number), "number"
