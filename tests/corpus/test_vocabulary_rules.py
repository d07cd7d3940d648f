"""Vocabulary rules: rare words become `<unk>`, closed vocabularies, vocabularies from a file."""

from pathlib import Path
from typing import Any

import pytest

from ptblm.config.loading import load_config
from ptblm.corpus.corpus import Corpus, load_corpus
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.errors import ConfigError, DataError
from tests.corpus.helpers import data_config

TRAIN = "the cat sat on the mat\nthe cat sat\non a dog\n" + "the cat sat on on\n" * 3


@pytest.fixture
def novel(tmp_path: Path) -> Path:
    """A corpus without `<unk>`; "mat", "a" and "dog" occur once."""
    directory = tmp_path / "novel"
    directory.mkdir()
    (directory / "train.txt").write_text(TRAIN)
    (directory / "valid.txt").write_text("the dog sat on the zebra\n" * 2)
    (directory / "test.txt").write_text("the mat\n")
    return directory


def load(path: Path, tokenizer: str = "word", **rule: Any) -> Corpus:
    return load_corpus(data_config(path, tokenizer, vocabulary=rule))


def test_words_that_occur_once_become_unk(novel: Path) -> None:
    corpus = load(novel)
    assert set(corpus.vocabulary.tokens) == {"<eos>", "<unk>", "the", "cat", "sat", "on"}
    assert [text.unknown for text in corpus.splits.values()] == [3, 4, 1]
    counts = dict(zip(corpus.vocabulary.tokens, corpus.vocabulary.counts, strict=True))
    assert counts["<unk>"] == 3
    assert sum(counts.values()) == len(corpus.splits["train"].ids)
    assert (corpus.splits["train"].ids == corpus.vocabulary.unk_id).sum() == 3
    rare, _ = corpus.notes  # the other note is on the many unknown words of valid
    assert rare == (
        "3 of 33 training tokens (9.1%) are rare words and become <unk> "
        "(data.vocabulary.min_count: 2)"
    )


def test_all_words_can_be_kept(novel: Path) -> None:
    corpus = load(novel, min_count=1)
    assert {"mat", "a", "dog", "<unk>"} <= set(corpus.vocabulary.tokens)
    assert [text.unknown for text in corpus.splits.values()] == [0, 2, 0]


@pytest.mark.parametrize("min_count", [1, 2, 5, 6, 100])
def test_min_count_is_the_smallest_count(novel: Path, min_count: int) -> None:
    whole = load(novel, min_count=1).vocabulary
    expected = {t for t, n in zip(whole.tokens, whole.counts, strict=True) if n >= min_count}
    assert set(load(novel, min_count=min_count).vocabulary.tokens) == expected | {"<eos>", "<unk>"}


@pytest.mark.parametrize("size", [3, 4, 5, 9])
def test_size_keeps_the_most_frequent_words(novel: Path, size: int) -> None:
    corpus = load(novel, size=size, min_count=1)
    assert len(corpus.vocabulary) == min(size, 9)
    ranked = ["the", "cat", "on", "sat", "a", "dog", "mat"]
    counted = load(novel, min_count=1).vocabulary
    ranked.sort(key=lambda word: (-counted.counts[counted.ids[word]], word))
    assert {"<eos>", "<unk>", *ranked[: size - 2]} == set(corpus.vocabulary.tokens)


@pytest.mark.parametrize(
    ("rule", "limit"),
    [
        ({"size": 5}, "size: 5"),
        ({"size": 9}, "min_count: 2"),  # the text has only four words that occur twice
        ({"size": 5, "min_count": 2}, "size: 5"),
        ({"min_count": 6}, "min_count: 6"),
    ],
)
def test_note_names_the_limit_that_decided(rule: dict[str, Any], limit: str, novel: Path) -> None:
    assert load(novel, **rule).notes[0].endswith(f"become <unk> (data.vocabulary.{limit})")


def test_text_with_unk_keeps_all_words(novel: Path) -> None:
    with (novel / "train.txt").open("a") as file:
        file.write("a <unk> bird\n")
    corpus = load(novel)
    assert {"bird", "dog"} <= set(corpus.vocabulary.tokens)
    assert corpus.splits["train"].unknown == 0
    assert "bird" not in load(novel, min_count=2).vocabulary.ids


def test_closed_vocabulary_has_no_unk(novel: Path) -> None:
    with pytest.raises(DataError, match="'zebra' is not in the vocabulary") as caught:
        load(novel, closed=True)
    assert "data.vocabulary.closed=false" in str(caught.value.hint)
    (novel / "valid.txt").write_text("the dog sat\n")
    vocabulary = load(novel, closed=True).vocabulary
    assert vocabulary.unk_id is None
    assert "dog" in vocabulary.ids


def test_characters_can_become_unk(novel: Path) -> None:
    assert load(novel, "char").splits["train"].unknown == 0
    corpus = load(novel, "char", min_count=2)
    assert "g" not in corpus.vocabulary.ids
    assert corpus.splits["train"].unknown == sum(TRAIN.count(c) == 1 for c in set(TRAIN))
    with pytest.raises(DataError, match="'z' is not in the vocabulary"):
        load(novel, "char", closed=True)


@pytest.mark.parametrize("spelling", ["<unk>", "<UNK>", "[UNK]"])
def test_vocabulary_from_a_list(spelling: str, novel: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(f"the\t17\r\n{spelling} 3\r\ndog\r\nyak\r\n")
    corpus = load(novel, file=str(path))
    assert corpus.vocabulary.tokens == ("<eos>", "the", "<unk>", "dog", "yak")
    assert corpus.vocabulary.counts == (6, 6, 20, 1, 0)
    assert corpus.splits["valid"].unknown == 6


def test_closed_vocabulary_from_a_list(novel: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("the\ndog\n")
    with pytest.raises(DataError, match="'cat' is not in the vocabulary"):
        load(novel, file=str(path), closed=True)


@pytest.mark.parametrize(("content", "message"), [("", "empty"), ("a\nb\na\n", "'a' 2 times")])
def test_malformed_list(content: str, message: str, novel: Path, tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        load(novel, file=str(path))


def test_given_vocabulary_keeps_its_ids(novel: Path) -> None:
    given = Vocabulary(["on", "<unk>", "<eos>", "the"], [1, 2, 3, 4])
    corpus = load_corpus(data_config(novel), given)
    assert corpus.vocabulary.tokens == given.tokens
    assert sum(corpus.vocabulary.counts) == 33


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"min_count": 0}, "must be greater than or equal to 1"),
        ({"size": 2}, "must be greater than or equal to 3"),
        ({"closed": True, "min_count": 2}, "cannot be combined with min_count"),
        ({"file": "words.txt", "size": 9}, "cannot be combined with size"),
        ({"unk": "two words"}, "got 'two words'"),
    ],
)
def test_impossible_rules_are_config_errors(keys: dict[str, object], message: str) -> None:
    flags = {f"data.vocabulary.{key}": value for key, value in keys.items()}
    with pytest.raises(ConfigError, match=message):
        load_config("small", flags=flags)


def test_byte_tokenizer_has_no_vocabulary_rules() -> None:
    with pytest.raises(ConfigError, match="cannot be used with tokenizer byte"):
        load_config("small", flags={"data.tokenizer": "byte", "data.vocabulary.min_count": 2})


def test_reason_for_many_unknown_words(tmp_path: Path) -> None:
    train = "the naïve cat sat on the mat near the house\n" * 4
    cases = {
        "upper": ("THE NAÏVE CAT SAT ON THE MAT\n", "lower case"),
        "nfd": ("nai\u0308ve nai\u0308ve naive\n", "NFC"),
        "attached": ("cat, mat, house. (sat)\n", "punctuation"),
        "greek": (
            "\u03b7 \u03b3\u03ac\u03c4\u03b1 \u03ba\u03ac\u03b8\u03b5\u03c4\u03b1\u03b9\n",
            "Greek script",
        ),
        "other": ("le chat est assis\n", "another language"),
    }
    for name, (valid, reason) in cases.items():
        directory = tmp_path / name
        directory.mkdir()
        for split, text in (("train", train), ("valid", valid * 3), ("test", train)):
            (directory / f"{split}.txt").write_text(text)
        (note,) = load(directory).notes
        assert "% of the words are not in the vocabulary" in note
        assert note.startswith("valid split: ")
        assert reason in note


def test_vocabulary_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptblm.corpus.vocabulary_file.MAX_TOKENS", 100)
    (tmp_path / "vocabulary").write_text("".join(f"w{n}\n" for n in range(101)))
    with pytest.raises(DataError, match="the vocabulary has more than 100 lines"):
        load_corpus(data_config("sample", vocabulary={"file": str(tmp_path / "vocabulary")}))


def test_vocabulary_file_of_another_tokenizer(tmp_path: Path) -> None:
    """A checkpoint with such a vocabulary could not be used."""
    (tmp_path / "vocabulary").write_text("a\nb\nth\n")
    with pytest.raises(DataError, match="contains 'th', which is not a character"):
        load_corpus(
            data_config("sample", "char", vocabulary={"file": str(tmp_path / "vocabulary")})
        )
