"""The accuracy of a model on minimal pairs: per paradigm, per group of paradigms, and overall.

The accuracy of a group is the mean over its paradigms, as in BLiMP, where all paradigms have the
same number of pairs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ptblm.evaluation.minimal_pairs.judgments import Judgment


@dataclass(frozen=True)
class Accuracy:
    """The accuracy on a set of pairs.

    Attributes:
        name: name of the set.
        pairs: number of pairs.
        right: pairs of which the model finds the grammatical sentence more probable.
        ties: pairs with equal scores.
        same: pairs whose sentences are the same tokens for the model.
        words: tokens of the sentences, without those that end a line.
        unknown: how many of them are not in the vocabulary.
        paradigms: number of paradigms.
        mean: mean of the accuracies of the paradigms.
        over_pairs: accuracy over all pairs, regardless of their paradigm.
    """

    name: str
    pairs: int
    right: int
    ties: int
    same: int
    words: int
    unknown: int
    paradigms: int
    mean: float
    over_pairs: float

    @property
    def unknown_share(self) -> float:
        """Share of the tokens that are not in the vocabulary."""
        return self.unknown / max(1, self.words)

    @property
    def same_share(self) -> float:
        """Share of the pairs whose sentences are the same tokens for the model."""
        return self.same / self.pairs


@dataclass(frozen=True)
class Summary:
    """The accuracies of all sets of pairs, each in the order of its first pair.

    Attributes:
        paradigms: accuracy on each paradigm.
        groups: accuracy on each group, by the kind of group, such as "field".
        overall: accuracy on all pairs.
    """

    paradigms: list[Accuracy]
    groups: dict[str, list[Accuracy]]
    overall: Accuracy


def summarize(judgments: Sequence[Judgment], *, strict: bool = False) -> Summary:
    """Returns the accuracies of all sets of pairs.

    Args:
        judgments: at least one judgment.
        strict: whether a tie counts as wrong instead of half.
    """
    kinds = list(dict.fromkeys(kind for each in judgments for kind in each.groups))
    return Summary(
        _accuracies(((each.paradigm, each) for each in judgments), strict=strict),
        {
            kind: _accuracies(
                ((each.groups[kind], each) for each in judgments if kind in each.groups),
                strict=strict,
            )
            for kind in kinds
        },
        _accuracy("overall", judgments, strict=strict),
    )


def _accuracies(named: Iterable[tuple[str, Judgment]], *, strict: bool) -> list[Accuracy]:
    sets: dict[str, list[Judgment]] = {}
    for name, each in named:
        sets.setdefault(name, []).append(each)
    return [_accuracy(name, some, strict=strict) for name, some in sets.items()]


def _accuracy(name: str, judgments: Sequence[Judgment], *, strict: bool) -> Accuracy:
    credit = {"right": 1.0, "tie": 0.0 if strict else 0.5, "wrong": 0.0}
    of_paradigms: dict[str, list[float]] = {}
    for each in judgments:
        of_paradigms.setdefault(each.paradigm, []).append(credit[each.verdict])
    means = [sum(some) / len(some) for some in of_paradigms.values()]
    return Accuracy(
        name,
        pairs=len(judgments),
        right=sum(each.verdict == "right" for each in judgments),
        ties=sum(each.verdict == "tie" for each in judgments),
        same=sum(each.same for each in judgments),
        words=sum(each.words for each in judgments),
        unknown=sum(each.unknown for each in judgments),
        paradigms=len(means),
        mean=sum(means) / len(means),
        over_pairs=sum(map(sum, of_paradigms.values())) / len(judgments),
    )
