"""Evaluates a model on a whole text with the protocol of published test perplexities."""

from collections.abc import Iterator

from ptblm.corpus.batches import count_streams
from ptblm.corpus.reader import EncodedText
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.evaluation.score import Score
from ptblm.evaluation.scorer import on_device, running_scores
from ptblm.model.language_model import LanguageModel

PROTOCOL = (
    "one stream; initial state: {initial_state}; state carried to the end; "
    "every token but the first is a target; fp32"
)


def evaluate(model: LanguageModel, tokenizer: Tokenizer, text: EncodedText) -> Iterator[Score]:
    """Yields the cumulative score after each chunk. The last score is the score of the text.

    Args:
        model: the model, in evaluation mode.
        tokenizer: the tokenizer of the text. Special tokens are also scored separately.
        text: the text, scored as one stream.

    Raises:
        DataError: if the text has fewer than two tokens.
    """
    streams = count_streams(len(text.ids), 1, 1, "text")
    ids = on_device(text.ids, next(model.parameters()).device)
    yield from running_scores(model, ids, streams, special_ids=tokenizer.special_ids)
