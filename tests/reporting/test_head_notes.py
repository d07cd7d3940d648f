"""Notes on a vocabulary whose order does not fit the adaptive softmax."""

from pathlib import Path

import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import load_corpus
from ptblm.reporting.console import head_notes


def notes(*overrides: str) -> list[str]:
    config = load_config("small", ["data.path=sample", *overrides])
    return head_notes(load_corpus(config.data), config.model)


@pytest.mark.parametrize("tokenizer", ["word", "char"])
def test_own_vocabulary_is_in_the_order_of_counts(tokenizer: str) -> None:
    assert notes("model.head=adaptive", f"data.tokenizer={tokenizer}") == []


def test_bytes_are_not_in_the_order_of_counts() -> None:
    (note,) = notes("model.head=adaptive", "data.tokenizer=byte")
    assert note.startswith("the first 84 bytes of the vocabulary are 2")
    assert "most frequent ones are 100%" in note
    assert notes("data.tokenizer=byte") == []


def test_order_of_a_vocabulary_file_is_checked(tmp_path: Path) -> None:
    """Rare words first; a few that changed places make no difference."""
    tokens = load_corpus(load_config("small", ["data.path=sample"]).data).vocabulary.tokens
    file, option = tmp_path / "words", f"data.vocabulary.file={tmp_path / 'words'}"
    file.write_text("\n".join([*tokens[5:60], *tokens[:5], *tokens[60:]]))
    assert notes("model.head=adaptive", option) == []
    file.write_text("\n".join(reversed(tokens)))
    assert len(notes("model.head=adaptive", option)) == 1
    assert notes(option) == []
