"""Formulas of SyntaxGym: values, precedence, tolerance of equality, and errors."""

import pytest

from ptblm.evaluation.minimal_pairs.formula import (
    FormulaError,
    Region,
    is_true,
    parse_formula,
    regions,
)

VALUES = {("a", 1): 2.0, ("a", 2): 3.5, ("b", 1): 4.0, ("b", 2): 1.0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1;%a%) < (1;%b%)", True),
        ("(1;%a%) > (1;%b%)", False),
        ("((2; %a%) > ( 2 ;%b%))", True),
        ("(*;%a%) > (*;%b%)", True),  # 5.5 and 5
        ("(*;%a%) - (*;%b%) = 0.5", True),
        ("5 - 4 - 3 < 0", True),
        ("5 - (4 - 3) < 0", False),
        ("5+4=9-1+1", True),
        ("(5-3)+((2+1)-(2+2))=1", True),
        ("1 < 2 & 2 < 1 | 1 < 2", True),
        ("[(1;%a%) < (1;%b%)] & [(2;%a%) < (2;%b%)]", False),
        ("1 > 2 | (1;%a%) = 2.0e0", True),
        ("((1;%b%)-(1;%a%))+(((2;%a%)+(1;%a%))-((2;%b%)+(1;%b%)))>0", True),
    ],
)
def test_formulas_have_their_arithmetic_value(text: str, expected: bool) -> None:
    assert is_true(parse_formula(text), VALUES) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [(1.0, 1.001, True), (1.0, 1.0011, False), (1000.0, 1000.0109, True), (1000.0, 1000.02, False)],
)
def test_equality_ignores_small_differences(left: float, right: float, expected: bool) -> None:
    assert is_true(parse_formula(f"{left} = {right}"), {}) == expected


def test_regions_of_a_formula_are_found() -> None:
    found = set(regions(parse_formula("(1;%a-b_c%) < (*;%d e%) & 1 < 2")))
    assert found == {Region("a-b_c", 1), Region("d e", None)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "(1;%a%)",
        "1 + 2",
        "1 <",
        "< 1",
        "1 < 2 < 3",
        "1 < 2 + (3 < 4)",
        "1 & 2",
        "(1 < 2",
        "1 < 2)",
        "[1 < 2)",
        "(1;a) < 2",
        "__import__('os') < 1",
        "1 < 2 3",
        "(" * 100 + "1 < 2" + ")" * 100,
        "(" * 100_000,
        "+".join(["1"] * 1000) + " < 1",
        "(99999999999999999999;%a%) < 1",
    ],
)
def test_invalid_formulas_are_errors(text: str) -> None:
    with pytest.raises(FormulaError):
        parse_formula(text)
