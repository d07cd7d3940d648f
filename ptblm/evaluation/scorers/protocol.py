"""What scores a text: `StaticScorer` with fixed weights, `PipelineScorer` in all other ways."""

from typing import Protocol

from ptblm.corpus.vocabulary import Ids
from ptblm.evaluation.token_scores import Measures, TokenScores


class Scorer(Protocol):
    """Scores one text chunk by chunk, each token before anything adapts to it."""

    @property
    def chunk_size(self) -> int:
        """The largest number of tokens of the next chunk."""

    def token_scores(self, inputs: Ids, targets: Ids, measures: Measures) -> TokenScores:
        """Returns the scores of the next tokens of the text.

        Args:
            inputs: the ids before each token, [T], at most `chunk_size`.
            targets: the ids of the tokens, [T].
            measures: what to compute besides -log p.
        """
