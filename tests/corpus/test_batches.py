"""How a text is divided for training and evaluation: streams, and tokens that are in no batch."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ptblm.corpus.batches import batchify, count_dropped, count_streams
from ptblm.errors import DataError


@pytest.mark.parametrize(
    ("tokens", "batch_size", "num_steps", "streams"),
    [
        (73_760, 20, 20, 20),  # the Penn Treebank
        (401, 20, 20, 20),
        (400, 20, 20, 19),
        (275, 20, 20, 13),
        (275, 20, 35, 7),
        (275, 20, 100, 2),
        (21, 20, 20, 1),
        (2, 20, 20, 1),
        (82_430, 1, 1, 1),
    ],
)
def test_short_text_has_fewer_streams(
    tokens: int, batch_size: int, num_steps: int, streams: int
) -> None:
    assert count_streams(tokens, batch_size, num_steps, "text") == streams


@pytest.mark.parametrize("tokens", [0, 1])
def test_text_of_fewer_than_two_tokens_cannot_be_evaluated(tokens: int) -> None:
    with pytest.raises(DataError, match="the valid split has fewer than two tokens"):
        count_streams(tokens, 20, 20, "valid split")


@given(st.integers(2, 2000), st.integers(1, 40), st.integers(1, 40))
def test_dropped_tokens_are_those_that_are_never_a_target(
    tokens: int, batch_size: int, num_steps: int
) -> None:
    assume(tokens >= batch_size * (num_steps + 1))
    batches = batchify(np.arange(tokens), batch_size, num_steps, "train")
    targets = set(batches.targets.flatten().tolist())
    dropped = set(range(1, tokens)) - targets
    assert count_dropped(tokens, batch_size, num_steps) == len(dropped)
