"""What an analysis of a trained model contains: a passage, its hardest tokens, and averages.

A report shows it. All values are plain numbers and texts. Surprisal is -log2 p, in bits.
"""

from dataclasses import dataclass
from typing import NamedTuple


class Candidate(NamedTuple):
    """A token that the model considered.

    Attributes:
        token: the token.
        probability: its probability.
    """

    token: str
    probability: float


class ScoredToken(NamedTuple):
    """A token of a text, as the model predicted it.

    Attributes:
        token: the spelling in the text.
        surprisal: -log2 p, in bits.
        rank: how many tokens are at least as probable; 1 for the most probable token.
        unknown: whether the token was scored as the unknown token.
        top: the most probable tokens at this place, the most probable one first.
    """

    token: str
    surprisal: float
    rank: int
    unknown: bool
    top: list[Candidate]


class HardToken(NamedTuple):
    """A token with a high surprisal, in its context.

    Attributes:
        before: the last tokens before it in its line, joined by spaces if they are words. Like all
            texts here, it is not escaped, and can contain control characters.
        scored: the token.
        line: number of its line in the text, from 1.
    """

    before: str
    scored: ScoredToken
    line: int


class Group(NamedTuple):
    """Tokens that have something in common.

    Attributes:
        label: what they have in common, such as "10 to 99" occurrences in training.
        tokens: how many there are.
        perplexity: their perplexity, exp of their mean -log p.
    """

    label: str
    tokens: int
    perplexity: float


class CalibrationBin(NamedTuple):
    """Predictions whose probabilities lie in one interval.

    Attributes:
        predictions: how many there are.
        mean_probability: mean of their probabilities.
        frequency: the share of them that came true.
    """

    predictions: int
    mean_probability: float
    frequency: float


class GateMap(NamedTuple):
    """Activations of a gate along a line.

    Attributes:
        layer: number of the layer, from 1.
        gate: name of the gate, such as "forget".
        units: numbers of the units that are shown, from 0.
        values: activations, by token, then unit; from 0 to 1.
    """

    layer: int
    gate: str
    units: list[int]
    values: list[list[float]]


@dataclass(frozen=True)
class ModelAnalysis:
    """An analysis of a trained model on a text.

    Attributes:
        text: name of the text, such as "valid split of ptb".
        tokens: number of analyzed tokens.
        perplexity: their perplexity.
        passage: lines of the text, token by token, with the tokens that end lines but without the
            first token of the text, which has no context and is not scored.
        hardest: the tokens with the highest surprisal, the highest first.
        by_frequency: groups by occurrences in training, rarest first; empty if these are unknown.
        by_position: groups by position in the line, first position first.
        calibration: bins of the predicted probabilities, lowest first.
        gate_tokens: the tokens of the line whose gates are shown.
        gates: activations of the gates; empty for a cell without gates.
        samples: generated texts.
    """

    text: str
    tokens: int
    perplexity: float
    passage: list[list[ScoredToken]]
    hardest: list[HardToken]
    by_frequency: list[Group]
    by_position: list[Group]
    calibration: list[CalibrationBin]
    gate_tokens: list[str]
    gates: list[GateMap]
    samples: list[str]
