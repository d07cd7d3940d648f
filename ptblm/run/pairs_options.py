"""The options of `ptblm pairs`: checks them, and describes what they compare."""

import logging
from collections.abc import Iterator, Sequence

from ptblm.errors import UsageError
from ptblm.evaluation.minimal_pairs.agreement import AgreementText
from ptblm.evaluation.minimal_pairs.judgments import Method
from ptblm.evaluation.minimal_pairs.pair import Pair
from ptblm.evaluation.minimal_pairs.reading import Material
from ptblm.evaluation.minimal_pairs.spans import ScoreKind
from ptblm.evaluation.minimal_pairs.syntaxgym import Suite
from ptblm.terminal import counted

logger = logging.getLogger(__name__)

_SPANS = {
    "full": "the whole sentence, with the token that ends a line",
    "prefix": "the critical word, given the text before it",
    "target": "the tokens that differ, given those before them",
}
_SCORES = {"sum": "log p", "mean": "log p per token", "slor": "SLOR"}


def check_options(
    materials: Sequence[Material], method: Method | None, score: ScoreKind | None
) -> None:
    """Checks that the options apply to the files, and notes which pairs are left out.

    Args:
        materials: the content of the files.
        method: the method, if the user chose one.
        score: the kind of score, if the user chose one.

    Raises:
        UsageError: if an option does not apply.
    """
    chosen = [f"--{name}" for name, value in (("method", method), ("score", score)) if value]
    if chosen and any(isinstance(material, Suite) for material in materials):
        raise UsageError(
            f"{' and '.join(chosen)}: a suite of SyntaxGym itself defines what is compared",
            hint=f"omit {' and '.join(chosen)}, or evaluate the suites separately",
        )
    if method != "prefix":
        return
    paradigms = {pair.paradigm for pair in _pairs(materials)}
    without = {pair.paradigm for pair in _pairs(materials) if pair.prefixes is None}
    if without == paradigms:
        raise UsageError(
            "--method prefix: the files do not contain the texts of the prefix methods",
            hint="use --method target, which compares the tokens that differ",
        )
    if without:
        logger.info(
            "%s of %s are left out, because they have no prefixes",
            f"{len(without):,}",
            counted(len(paradigms), "paradigm"),
        )


def descriptions(
    materials: Sequence[Material], method: Method | None, score: ScoreKind
) -> list[str]:
    """Returns what is compared, one line for each kind of file.

    See `check_options` for the arguments.
    """
    found: dict[str, None] = {}
    for material in materials:
        if isinstance(material, Suite):
            found[f"formulas of regions, each the {material.metric} of its surprisals"] = None
        elif isinstance(material, AgreementText) and method in (None, "target"):
            found[f"{_SCORES[score]} of the target word, given the whole text before it"] = None
        else:
            found[f"{_SCORES[score]} of {_SPANS[method or 'full']}"] = None
    return list(found)


def _pairs(materials: Sequence[Material]) -> Iterator[Pair]:
    """Yields the pairs of all files except suites."""
    for material in materials:
        if isinstance(material, AgreementText):
            yield from (line.pair for line in material.lines)
        elif not isinstance(material, Suite):
            yield from material
