"""Words divided as in the Penn Treebank, and the words that tokens belong to."""

import random
import sys

import pytest

from ptblm.corpus.lines import make_line
from ptblm.corpus.tokenizers import make_tokenizer
from ptblm.corpus.tokenizers.base import Tokenizer
from ptblm.corpus.vocabulary import Vocabulary
from ptblm.corpus.whole_words import whole_words
from ptblm.corpus.word_splitting import Splitting, split_words, word_splitter
from ptblm.errors import UsageError

KNOWN = ["<eos>", "<unk>", "the", "Mr.", "u.s.", "can't"]


def words(tokens: list[str] = KNOWN) -> Tokenizer:
    return make_tokenizer("word", Vocabulary(tokens, [1] * len(tokens)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the owners. They don't", "the owners . They do n't"),
        ('"Yes," he said.', "`` Yes , '' he said ."),
        ("Mr. Smith, Dr. Who", "Mr. Smith , Dr . Who"),  # Mr. is in the vocabulary
        ("can't cannot won't", "can't can not wo n't"),
        ("it's (John's) $5", "it 's ( John 's ) $ 5"),
        ("wait... 1,000 3.5%", "wait ... 1,000 3.5 %"),
        ("  ", ""),
    ],
)
def test_words_are_divided_as_in_the_treebank(text: str, expected: str) -> None:
    pytest.importorskip("nltk")
    assert split_words(text, "ptb", words()) == expected.split()


def test_lower_case_for_the_vocabulary_only() -> None:
    pytest.importorskip("nltk")
    spelled, tokens = word_splitter("ptb-lower", words())('"The U.S." CAN\'T Fail.')
    assert spelled == ['"', "The", "U.S", ".", '"', "CAN'T", "Fail", "."]
    assert tokens == ["``", "the", "u.s", ".", "''", "can't", "fail", "."]


@pytest.mark.parametrize("seed", range(20))
def test_tokens_of_words_are_those_of_the_line(seed: int) -> None:
    """NLTK itself, for a line without a period inside."""
    pytest.importorskip("nltk")
    from nltk.tokenize.treebank import TreebankWordTokenizer

    rng = random.Random(seed)
    pieces = [
        "cat",
        "don't",
        "it's",
        '"Dog',
        'bird,"',
        "(big)",
        "well--known",
        "$5",
        "cannot",
        "a/b",
    ]
    pieces += ["'tis", "end;", "what?", "O'Neil's", "...", "50%", "they'll", "`x'"]
    text = " ".join(rng.choices(pieces, k=12)) + "."
    spelled, tokens = word_splitter("ptb", words())(text)
    assert tokens == TreebankWordTokenizer().tokenize(text)
    assert "".join(spelled) == text.replace(" ", "")


def test_none_is_the_way_of_the_tokenizer() -> None:
    assert split_words("The cat. ", "none", words()) == ["The", "cat."]
    assert split_words("a b", "none", make_tokenizer("byte")) == ["a", " ", "b"]


@pytest.mark.parametrize("how", ["ptb", "ptb-lower"])
def test_only_words_can_be_divided(how: Splitting) -> None:
    with pytest.raises(UsageError, match="the tokens of the model are bytes"):
        word_splitter(how, make_tokenizer("byte"))


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk.tokenize.treebank", None)
    with pytest.raises(UsageError) as error:
        word_splitter("ptb", words())
    assert error.value.hint == "pip install 'ptblm[tokenize]'"


def whole(text: str, tokenizer: Tokenizer, how: Splitting = "none") -> list[tuple[str, list[str]]]:
    """The words of a line, each with its tokens; the last token is that of the line end."""
    spelled, tokens = word_splitter(how, tokenizer)(text)
    line = make_line(1, tokens, tokenizer, text, "text", spelled)
    found, starts = whole_words(line, tokenizer)
    all_tokens = [*line.tokens, "|"]
    ends = [*starts.tolist()[1:], len(all_tokens)]
    pairs = zip(starts.tolist(), ends, strict=True)
    return [(word, all_tokens[a:b]) for word, (a, b) in zip(found, pairs, strict=True)]


def test_tokens_belong_to_the_words_between_spaces() -> None:
    pytest.importorskip("nltk")
    assert whole('He  said, "No."', words(), "ptb") == [
        ("He", ["He"]),
        ("said,", ["said", ","]),
        ('"No."', ['"', "No", ".", '"']),
        ("<eos>", ["|"]),
    ]


def test_characters_belong_to_the_word_before_them() -> None:
    characters = make_tokenizer("char", Vocabulary(["<eos>", "<unk>"], [1, 1]))
    assert whole(" ab \u3000c", characters) == [("ab", list(" ab \u3000")), ("c", ["c", "|"])]
    assert whole("ab ", characters) == [("ab", ["a", "b", " ", "|"])]
    assert whole("", characters) == [("<eos>", ["|"])]


def test_bytes_of_a_character_stay_together() -> None:
    found = whole("é \udcff", make_tokenizer("byte"))
    assert found == [("é", ["Ã", "©", " "]), ("\udcff", ["ÿ", "|"])]
